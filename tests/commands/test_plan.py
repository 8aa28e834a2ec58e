"""`vfusion3d plan`, and what `fit` refuses before it builds anything."""

from __future__ import annotations

import json
import sys

import lightning  # noqa: F401 - its log writes to the standard error of whoever imports it first
import pytest

from vfusion3d import cli

PRETRAIN = ["--config", "recipes/paper/pretrain_synthetic.yaml"]
NANO = ["--config", "recipes/nano/pretrain_synthetic.yaml", "--model.init_args.losses.trunk", "squeeze"]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """A training verb in an empty folder: exit code, standard output and errors."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["vfusion3d"])
        status = cli.main(list(arguments))
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return call


def test_text_and_json(run, tmp_path):
    status, text, _ = run("plan", *NANO)
    assert status == 0
    assert "8 samples x 1 devices x 1 batches = 8; 32 patches of 24 pixels a step" in text
    assert "90, 15 an epoch; warm-up 5; restart 30" in text
    assert "60 to 90" in text and "1.00e-03 to 8.72e-04" in text and "GiB a device, estimated" in text
    assert "losses   random_feature x 0.05, opacity x 0.1" in text
    status, text, _ = run("plan", *NANO, "--json", "--tflops", "0.05")
    plan = json.loads(text)
    assert [stage["resolution"] for stage in plan["stages"]] == [24, 36, 48, 60, 72]
    assert plan["batch"]["total"] == 8 and plan["steps"]["restarts"] == [30] and plan["notes"] == []
    memory = plan["memory"]
    assert memory["with_checkpointing"]["total"] <= memory["without_checkpointing"]["total"]
    assert memory["per_device"] == memory["without_checkpointing"]
    assert plan["cost"]["tflops_per_device"] == 0.05
    assert not list(tmp_path.iterdir())  # nothing is written


def test_mistakes(run):
    mistakes = {
        ("--trainer.devices", "2"): "8 samples x 2 devices x 1 batches = 16, but `total_batch` wants 8",
        ("--trainer.max_epochs", "3"): "The stages of `resolution` last 6 epochs but the run has 3",
        ("--data.init_args.resolution", "64"): "A stage renders at 72 pixels but the data delivers 64",
        ("--data.init_args.samples_per_epoch", "null"): "The data cannot be counted here",
        ("--tflops", "0"): "Argument `tflops` must be positive",
    }
    for options, sentence in mistakes.items():
        status, text, error = run("plan", *NANO, *options)
        assert status == 2 and text == "" and sentence in error and error.count("\n") <= 2


def test_fit_refuses_before_it_builds(run):
    status, _, error = run("fit", *NANO, "--data.init_args.batch_size", "3")
    assert status == 2
    assert "3 samples x 1 devices x 1 batches = 3, but `total_batch` wants 8: choose" in error


def test_missing_weights_are_one_sentence(run):
    status, text, error = run("fit", *PRETRAIN, "--trainer.fast_dev_run", "true", "--trainer.accelerator", "cpu")
    assert status == 2 and text == ""
    assert "Encoder 'facebook/dinov2-base' is not on this machine and the Hugging Face hub cannot be reached" in error
    status, _, error = run("fit", "--config", "recipes/paper/finetune_3d.yaml", "--trainer.fast_dev_run", "true")
    assert status == 2 and "Unknown model 'runs/pretrain_synthetic/lightning_logs/version_0/model'" in error


def test_no_weights_needs_no_file(run, tmp_path):
    """The overlay at tiny size: one step of the paper's recipe without weights, shards or network."""
    overlay = ["--config", "recipes/overlays/no_weights.yaml", "--trainer.fast_dev_run", "true"]
    tiny = ["--model.init_args.architecture", "tiny", "--model.init_args.changes", "null"]
    tiny += ["--model.init_args.losses.trunk", "squeeze", "--trainer.accelerator", "cpu"]
    small = ["--model.init_args.patches.size", "32", "--data.init_args.resolution", "64"]
    small += ["--resolution.resolutions", "[32,40,48,56,64]", "--data.init_args.views", "2"]
    status, _, error = run("fit", *PRETRAIN, *overlay, *tiny, *small)
    assert status == 0, error


def test_a_video_model(run):
    status, text, error = run("plan", "--config", "recipes/nano/video_emu.yaml")
    assert status == 0, error
    assert "emu (nano), trains all" in text and "64 frames of 32 pixels a step" in text
    assert "1,800, 90 an epoch" in text and "losses   denoising x 1" in text and "GiB a device, estimated" in text
    status, text, error = run("plan", "--config", "recipes/nano/video_emu.yaml", "--model.init_args.backbone", "sora")
    assert status == 2 and text == "" and "`backbone` must be one of" in error and "'sora'" in error
