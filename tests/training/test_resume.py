"""A run that stops anywhere and resumes does what the uninterrupted run does."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from tests.training.resumed import fit, journal
from vfusion3d.errors import UsageError
from vfusion3d.training import ReconstructorTraining

ENDS = ["epoch2", "epoch4", "validated2", "validated4"]
"""Checkpoints at the end of an epoch, and of a validation."""


def check(whole, *runs):
    """Runs, each resumed from the one before, against the uninterrupted one."""
    straight, parts = journal(whole), [journal(run) for run in runs]
    ends = [part[0]["step"] for part in parts[1:]] + [len(straight) + 1]
    joined = [step for part, end in zip(parts, ends, strict=True) for step in part if step["step"] < end]
    assert [{**s, "loss": None} for s in joined] == [{**s, "loss": None} for s in straight]
    assert [s["loss"] for s in joined] == pytest.approx([s["loss"] for s in straight], rel=1e-4)
    weights = [torch.load(folder / "weights.pt", weights_only=True) for folder in (whole, runs[-1])]
    for key, value in weights[0].items():
        torch.testing.assert_close(weights[1][key], value, atol=2e-5, rtol=1e-4)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Three epochs of two steps of two batches: three resolutions, a restart in the middle of the second epoch."""
    folder = tmp_path_factory.mktemp("straight")
    fit(folder, samples=8, batch_size=2, accumulate=2, ema=True)
    return folder


def test_the_run_is_what_it_should_be(straight):
    steps = journal(straight)
    assert [s["resolution"] for s in steps] == [8, 8, 16, 16, 16, 24]
    rates = [s["lr"] for s in steps]
    assert rates[3] == pytest.approx(1e-3) and rates[2] < rates[1] and rates[5] < rates[3]
    assert [s["samples_seen"] for s in steps] == [4, 8, 12, 16, 20, 24]
    names = {path.stem for path in straight.glob("*.ckpt")}
    assert names == {*map("step{}".format, range(1, 7)), *ENDS, "epoch6", "validated6"}


@pytest.mark.parametrize("name", ["step1", "step3", "step5", *ENDS])
def test_from_every_checkpoint(straight, tmp_path, name):
    fit(tmp_path, straight / f"{name}.ckpt", samples=8, batch_size=2, accumulate=2, ema=True)
    check(straight, straight, tmp_path)


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("name", ["step3", "epoch2"])
def test_with_another_accumulation(straight, tmp_path, name, batch_size):
    """The same samples per step in other batches, as on another number of processes."""
    fit(tmp_path, straight / f"{name}.ckpt", samples=8, batch_size=batch_size, accumulate=4 // batch_size, ema=True)
    check(straight, straight, tmp_path)


@pytest.mark.parametrize("batch", [3, 8, 12])
def test_stopped_by_an_exception_in_any_batch(straight, tmp_path, batch):
    """The checkpoint that Lightning writes then, also within an accumulation, is one of a whole step."""
    rescue = ModelCheckpoint(
        tmp_path / "a", "rescue", train_time_interval=None, every_n_epochs=9, save_on_exception=True
    )
    with pytest.raises(ValueError, match="stopped by the test"):
        fit(tmp_path / "a", samples=8, batch_size=2, accumulate=2, ema=True, fail=batch, callbacks=(rescue,))
    fit(tmp_path / "b", tmp_path / "a" / "rescue.ckpt", samples=8, batch_size=2, accumulate=2, ema=True)
    check(straight, tmp_path / "a", tmp_path / "b")


def test_twice_with_workers_and_muon(tmp_path):
    pytest.importorskip("timm")
    options = {"kind": "muon", "workers": 2}
    fit(tmp_path / "whole", **options)
    fit(tmp_path / "a", epochs=1, **options)
    fit(tmp_path / "b", tmp_path / "a" / "step1.ckpt", **options)
    fit(tmp_path / "c", tmp_path / "b" / "step5.ckpt", **options)
    check(tmp_path / "whole", tmp_path / "a", tmp_path / "b", tmp_path / "c")


def test_other_samples_per_step_are_refused(straight, tmp_path):
    with pytest.raises(
        UsageError, match=r"trained with 4 samples per step, and now .* makes 8: choose them so that it is 4"
    ):
        fit(tmp_path, straight / "step3.ckpt", samples=8, batch_size=4, accumulate=2, ema=True)


def test_epochs_are_whole_steps(tmp_path):
    """Otherwise the last step of an epoch would be a smaller one, and another one on two processes."""
    fit(tmp_path, epochs=1, samples=7, batch_size=1, accumulate=2)
    assert [len(s["samples"]) for s in journal(tmp_path)] == [2, 2, 2]


def test_warm_start_is_another_verb(straight, tmp_path):
    """Weights alone: the schedules, the samples and the optimiser start anew."""
    trained = ReconstructorTraining.load_from_checkpoint(straight / "step6.ckpt", weights_only=True)
    trained.model.save_pretrained(tmp_path / "model")
    fit(tmp_path / "warm", samples=8, batch_size=2, accumulate=2, epochs=1, weights=str(tmp_path / "model"))
    cold, warm = journal(straight)[:2], journal(tmp_path / "warm")
    decided = ("step", "epoch", "resolution", "samples", "samples_seen")
    assert [[s[key] for key in decided] for s in warm] == [[s[key] for key in decided] for s in cold]
    assert warm[0]["lr"] > 0 and all(abs(a["loss"] - b["loss"]) > 1e-4 for a, b in zip(warm, cold, strict=True))
    state = torch.load(tmp_path / "warm" / "step1.ckpt", weights_only=True)
    assert {float(s["step"]) for s in state["optimizer_states"][0]["state"].values()} == {1.0}
