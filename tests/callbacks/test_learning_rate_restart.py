from __future__ import annotations

import math

import pytest

from vfusion3d.callbacks import LearningRateRestart


def test_two_cosines_each_from_the_initial_rate_to_zero():
    schedule = LearningRateRestart(4e-4, [10, 20])
    rate = [schedule.rate(e, warmup=1.0) for e in (0.5, 1.0, 5.5, 9.9999, 10.0, 15.0, 20.0, 29.9999, 31.0)]
    expected = [2e-4, 4e-4, 2e-4, 0, 4e-4, 4e-4 * (1 + math.cos(math.pi / 4)) / 2, 2e-4, 0, 0]
    assert rate == pytest.approx(expected, abs=1e-9)


def test_warm_up_happens_once():
    schedule = LearningRateRestart(1.0, [2, 2])
    assert schedule.rate(0.1, warmup=0.5) == pytest.approx(0.2)
    assert schedule.rate(2.1, warmup=0.5) > 0.99


def test_final_rate():
    schedule = LearningRateRestart(1.0, [1], final=0.1)
    assert schedule.rate(0.5, 0.0) == pytest.approx(0.55) and schedule.rate(2.0, 0.0) == 0.1


@pytest.mark.parametrize(
    "arguments",
    [
        {"learning_rate": 0, "cycles": [1]},
        {"learning_rate": 1, "cycles": []},
        {"learning_rate": 1, "cycles": [1, -1]},
        {"learning_rate": 1, "cycles": [1], "warmup_steps": -1},
        {"learning_rate": 1, "cycles": [1], "warmup_fraction": 1.0},
    ],
)
def test_bad_arguments(arguments):
    with pytest.raises(ValueError, match="Argument"):
        LearningRateRestart(**arguments)


def test_epochs_are_counted_in_delivered_batches_and_warm_up_in_optimiser_steps():
    from types import SimpleNamespace

    from vfusion3d.callbacks.progress import samples_per_epoch

    data = SimpleNamespace(samples_per_epoch=10, batch_size=4)  # 10 samples make two batches of 4
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.0}])
    trainer = SimpleNamespace(
        datamodule=data, num_training_batches=2, world_size=1, accumulate_grad_batches=2, optimizers=[optimizer]
    )
    assert samples_per_epoch(trainer) == 8
    module = SimpleNamespace(samples_seen=0, log=lambda *args, **kwargs: None)
    schedule = LearningRateRestart(1.0, [100], warmup_steps=4)
    rates = []
    for _ in range(6):
        schedule.on_train_batch_start(trainer, module, {"sample": [None] * 4}, 0)
        rates.append(optimizer.param_groups[0]["lr"])
        module.samples_seen += 4
    assert rates == pytest.approx([0.25, 0.25, 0.5, 0.5, 0.75, 0.75])
