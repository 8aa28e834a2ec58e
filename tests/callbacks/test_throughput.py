from __future__ import annotations

from types import SimpleNamespace

import pytest

from vfusion3d.callbacks import Throughput, throughput


class Run:
    """A trainer and a module whose clock the test moves."""

    def __init__(self, monkeypatch, world_size=1, start=0, total=100.0):
        self.now, self.logged = 1000.0, {}
        monkeypatch.setattr(throughput.time, "perf_counter", lambda: self.now)
        self.trainer = SimpleNamespace(world_size=world_size, global_step=start, estimated_stepping_batches=total)
        self.module = SimpleNamespace(log=lambda name, value, prog_bar: self.logged.update({name: value}))
        self.callback = Throughput(window=4)
        self.callback.on_train_start(self.trainer, self.module)

    def step(self, seconds, samples=8, accumulate=False):
        self.now += seconds
        self.trainer.global_step += not accumulate
        self.callback.on_train_batch_end(self.trainer, self.module, None, {"sample": [None] * samples}, 0)

    def validate(self, seconds):
        self.callback.on_validation_start(self.trainer, self.module)
        self.now += seconds
        self.callback.on_validation_end(self.trainer, self.module)


def test_speed_and_time_left_do_not_count_the_start(monkeypatch):
    run = Run(monkeypatch, world_size=2)
    run.step(300.0)  # compiling
    assert not run.logged
    for _ in range(4):
        run.step(2.0)
    assert run.logged == pytest.approx({"samples_per_second": 8 * 2 / 2.0, "minutes_left": 95 * 2 / 60})


def test_validation_slows_the_run_but_not_training(monkeypatch):
    run = Run(monkeypatch)
    run.step(1.0)
    run.step(1.0)
    run.validate(10.0)
    run.step(1.0)
    assert run.logged == pytest.approx({"samples_per_second": 8.0, "minutes_left": 97 * 6 / 60})


def test_the_speed_is_that_of_the_last_steps(monkeypatch):
    run = Run(monkeypatch)
    for seconds in (1.0, 9.0, 9.0, 1.0, 1.0, 1.0, 1.0):
        run.step(seconds)
    assert run.logged["samples_per_second"] == pytest.approx(8.0)


def test_a_resumed_run_counts_what_this_process_did(monkeypatch):
    run = Run(monkeypatch, start=80)
    run.step(5.0)
    run.step(2.0)
    assert run.logged["minutes_left"] == pytest.approx(18 * 2 / 60)


def test_accumulated_steps_and_runs_without_an_end(monkeypatch):
    run = Run(monkeypatch, total=10)
    run.step(1.0)
    run.step(1.0, accumulate=True)
    assert "minutes_left" not in run.logged
    run.step(1.0)
    assert run.logged["minutes_left"] == pytest.approx(8 * 2 / 60)
    endless = Run(monkeypatch, total=float("inf"))
    endless.step(1.0)
    endless.step(1.0)
    assert list(endless.logged) == ["samples_per_second"]


def test_bad_window():
    with pytest.raises(ValueError, match="Argument `window` must be at least 1, but got 0"):
        Throughput(window=0)
