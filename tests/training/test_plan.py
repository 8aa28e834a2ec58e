"""Stages, steps, rates, memory and cost of runs, from their settings alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vfusion3d.callbacks import LearningRateRestart, ResolutionSchedule
from vfusion3d.errors import UsageError
from vfusion3d.models import ReconstructorConfig
from vfusion3d.training import LossWeights, PatchSettings
from vfusion3d.training.plan import RunSettings, device_hours, estimate_cost, estimate_memory, plan_run

PAPER = RunSettings(
    samples_per_epoch=2_700_000,
    max_epochs=30,
    batch_size=8,
    devices=128,
    total_batch=1024,
    stages=ResolutionSchedule([128, 192, 256, 320, 384], [5, 5, 5, 5, 10]),
    rates=LearningRateRestart(4e-4, [10, 20]),
)


def test_the_papers_run():
    plan = plan_run(PAPER)
    assert (plan.steps_per_epoch, plan.steps, plan.restarts, plan.warmup_steps) == (2636, 79_080, [26_360], 3000)
    assert (plan.nominal_steps, plan.nominal_restarts) == (79_102, [26_367])
    assert [stage.steps for stage in plan.stages][1:3] == [(13_180, 26_360), (26_360, 39_540)]
    assert plan.stages[-1].samples == 10 * 2636 * 1024 and plan.images_per_step == 4096
    first, second = plan.stages[1].learning_rate, plan.stages[2].learning_rate
    assert first[1] < 1e-10 and second[0] == pytest.approx(4e-4)  # the restart falls after the 192 stage
    assert plan.stages[0].learning_rate[0] == pytest.approx(4e-4 / 3000) and plan.stages[-1].learning_rate[1] < 1e-12


@pytest.mark.parametrize(
    ("samples", "steps", "restart"), [(500_000, 14_648, 4_883), (300_000, 8_789, 2_930), (100_000, 2_930, 977)]
)
def test_smaller_sets(samples, steps, restart):
    plan = plan_run(replace(PAPER, samples_per_epoch=samples))
    assert (plan.nominal_steps, plan.nominal_restarts) == (steps, [restart])
    assert plan.warmup_steps == round(0.05 * plan.steps) < plan.restarts[0]


def test_rates_are_those_that_the_callback_sets():
    """Step by step, as a trainer of four samples a step and three steps an epoch sees them."""
    from types import SimpleNamespace

    schedule = LearningRateRestart(1e-3, [1, 2], warmup_steps=2, warmup_fraction=0.5)
    module = SimpleNamespace(samples_seen=0, log=lambda *_, **__: None)
    group = {"lr": 0.0}
    trainer = SimpleNamespace(
        datamodule=SimpleNamespace(batch_size=4),
        train_dataloader=None,
        num_training_batches=3,
        world_size=1,
        accumulate_grad_batches=1,
        optimizers=[SimpleNamespace(param_groups=[group])],
    )
    seen = []
    for step in range(9):
        module.samples_seen = 4 * step
        schedule.on_train_batch_start(trainer, module, {"sample": [0] * 4}, step)
        seen.append(group["lr"])
    stages = ResolutionSchedule([128] * 9, [1 / 3] * 9)
    run = RunSettings(13, 3, batch_size=4, stages=stages, rates=schedule)
    assert [stage.learning_rate[0] for stage in plan_run(run).stages] == pytest.approx(seen)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"accumulate": 2}, "8 samples x 128 devices x 2 batches = 2048, but `total_batch` wants 1024: set --trainer"),
        ({"devices": 3}, "choose a batch_size and devices whose product divides 1024"),
        ({"max_epochs": 20}, "The stages of `resolution` last 30 epochs but the run has 20"),
        ({"max_epochs": 31}, "The cycles of `learning_rate` last 30 epochs but the run has 31"),
        ({"samples_per_epoch": 1000}, "An epoch has 1000 samples but an optimiser step takes 1024"),
        ({"resolution": 256}, "A stage renders at 384 pixels but the data delivers 256"),
        ({"patches": PatchSettings(size=160)}, "A stage renders at 128 pixels, smaller than the 160 pixel patches"),
        (
            {"samples_per_epoch": 300_000, "rates": LearningRateRestart(4e-4, [10, 20], warmup_fraction=0.99)},
            "The warm-up of 3000 steps passes the first restart of the learning rate at step 2920",
        ),
        ({"max_epochs": -1}, "`trainer.max_epochs` is -1"),
    ],
)
def test_what_cannot_be_is_refused(changes, sentence):
    with pytest.raises(UsageError) as error:
        plan_run(replace(PAPER, **changes))
    assert sentence in str(error.value)


def test_a_random_resolution_is_one_stage():
    uniform = ResolutionSchedule(uniform=(128, 384))
    plan = plan_run(replace(PAPER, stages=uniform, rates=None))
    assert [(stage.resolution, stage.epochs) for stage in plan.stages] == [((128, 384), (0.0, 30.0))]
    assert plan.restarts == [] and plan.stages[0].learning_rate == (4e-4, 4e-4)


def test_memory_and_cost():
    config = ReconstructorConfig.preset("tiny")
    run = RunSettings(
        64, 2, 4, losses=LossWeights(perceptual=0.0), patches=PatchSettings(size=16), half=False, resolution=32
    )
    kept, recomputed = (estimate_cost(run, config, flag) for flag in (False, True))
    assert kept.sample_bytes > recomputed.sample_bytes and kept.sample_flops < recomputed.sample_flops
    memory = estimate_memory(run, kept)
    assert memory.weights == 4 * kept.parameters == memory.gradients == memory.moments // 2
    assert estimate_memory(replace(run, distributed=True), kept).gradients == 2 * memory.weights
    assert estimate_memory(replace(run, averaged=True), kept).total == memory.total + memory.weights
    sharded = estimate_memory(replace(run, sharded=True, devices=4), kept)
    assert sharded.weights == memory.weights // 4
    per_sample = kept.sample_bytes + kept.peak_bytes
    assert estimate_memory(replace(run, batch_size=5), kept).activations == memory.activations + per_sample
    plan = plan_run(run)
    assert device_hours(plan, kept, 1.0) == pytest.approx(128 * kept.sample_flops / 1e12 / 3600)
