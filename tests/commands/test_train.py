"""The shipped recipe through the real command line, at toy length."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from vfusion3d import cli
from vfusion3d.recipes import find_recipe, list_recipes
from vfusion3d.training import ReconstructorTraining

SHORT = [
    *("--config", "recipes/nano/reconstructor.yaml"),
    *("--model.init_args.architecture", "tiny"),
    *("--model.init_args.changes", '{"field_dim": 8}'),
    *("--model.init_args.losses.perceptual", "0"),
    *("--data.init_args.samples_per_epoch", "4"),
    *("--data.init_args.batch_size", "2"),
    *("--data.init_args.val_samples", "2"),
    *("--data.init_args.resolution", "48"),
    *("--trainer.max_epochs", "4"),
    *("--trainer.accelerator", "cpu"),
    *("--trainer.precision", "32-true"),
    *("--trainer.logger", "CSVLogger"),
]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a training verb in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(verb, *options):
        monkeypatch.setattr(sys, "argv", ["vfusion3d"])
        root = ["--trainer.logger.save_dir", str(tmp_path), "--trainer.default_root_dir", str(tmp_path)]
        return cli.main([verb, *SHORT, *root, *options])

    return call


def test_fit_then_validate_test_predict_and_reconstruct(run, tmp_path, capsys):
    assert run("fit") == 0
    folder = tmp_path / "lightning_logs" / "version_0"
    rows = (folder / "metrics.csv").read_text()
    assert "train/loss" in rows and "resolution" in rows and "lr" in rows
    assert "samples_per_second" in rows and "minutes_left" in rows and "val/foreground_psnr" in rows
    assert len(list(folder.glob("novel_views_*.png"))) == 4
    checkpoint = folder / "checkpoints" / "last.ckpt"
    torch.load(checkpoint, weights_only=True)
    built = ReconstructorTraining.load_from_checkpoint(checkpoint, weights_only=True)
    assert built.model.config.field_dim == 8 and built.patches.size == 16
    assert run("fit", "--ckpt_path", str(checkpoint), "--trainer.max_epochs", "5") == 0
    assert (
        "\n5," not in rows and len(list(tmp_path.rglob("novel_views_0000010.png"))) == 1
    )  # went on, did not start again
    capsys.readouterr()
    assert run("fit", "--ckpt_path", str(checkpoint), "--model.init_args.patches.size", "8") == 2
    assert "was trained with other settings of patches" in capsys.readouterr().err
    cheaper = ["--model.init_args.patches.recompute", "true", "--model.init_args.gradient_checkpointing", "true"]
    assert run("fit", "--ckpt_path", str(checkpoint), "--trainer.max_epochs", "5", *cheaper) == 0
    changes = ["--data.init_args.views", "3", "--learning_rate.warmup_steps", "5", "--data.init_args.num_workers", "1"]
    assert run("fit", "--ckpt_path", str(checkpoint), *changes) == 2
    assert "other settings of data.views, learning_rate.warmup_steps, and" in capsys.readouterr().err
    older = torch.load(checkpoint, weights_only=True)
    del older["vfusion3d_recipe"], older["hyper_parameters"]["losses"]["inside"]
    del older["hyper_parameters"]["optimizer"]["kind"]
    torch.save(older, tmp_path / "older.ckpt")
    assert run("fit", "--ckpt_path", str(tmp_path / "older.ckpt"), "--trainer.max_epochs", "5") == 0
    assert run("validate", "--ckpt_path", "best") == 2
    assert "--ckpt_path best is known only to the process that trained" in capsys.readouterr().err
    assert run("validate", "--ckpt_path", str(checkpoint), *changes) == 0
    for verb in ("validate", "test", "predict"):
        assert run(verb, "--ckpt_path", str(checkpoint)) == 0
    assert len(list(tmp_path.rglob("test_views.png"))) == 1 and len(list(tmp_path.rglob("predicted_views.png"))) == 1

    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(picture).ellipse((12, 12, 50, 50), fill="red")
    picture.save(tmp_path / "ball.png")
    capsys.readouterr()
    command = ["reconstruct", str(tmp_path / "ball.png"), "--output", str(tmp_path / "out"), "--formats", "mp4"]
    assert cli.main([*command, "--model", str(folder / "model"), "--frames", "2", "--render-size", "16"]) == 0
    assert (tmp_path / "out" / "ball" / "turntable.mp4").stat().st_size > 0


def test_tensorboard_and_a_table_by_default(tmp_path, monkeypatch, capsys):
    """One folder has the events, the table, the recipe and the model with its card."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["vfusion3d"])
    at = SHORT.index("--trainer.logger")
    options = [*SHORT[:at], *SHORT[at + 2 :], "--trainer.default_root_dir", str(tmp_path), "--trainer.max_epochs", "2"]
    assert cli.main(["fit", *options, "--resolution", "null"]) == 0
    assert [path.name for path in (tmp_path / "lightning_logs").iterdir()] == ["version_0"]
    folder = tmp_path / "lightning_logs" / "version_0"
    assert list(folder.glob("events.out.tfevents.*")) and (folder / "config.yaml").is_file()
    assert "val/ssim" in (folder / "metrics.csv").read_text()
    card = (folder / "model" / "README.md").read_text()
    assert "class_path: vfusion3d.ProceduralDataModule" in card and "cycles:" in card and "| val/psnr |" in card
    if find_spec("wandb"):
        return
    capsys.readouterr()
    assert cli.main(["fit", *options, "--trainer.logger", "lightning.pytorch.loggers.WandbLogger"]) == 2
    assert capsys.readouterr().err.endswith("vfusion3d fit: WandbLogger needs Weights & Biases: pip install wandb.\n")


def test_recipes_are_packaged():
    folders = {name.split("/")[1] for name in list_recipes()}
    assert folders == {"ablations", "engine", "hardware", "nano", "overlays", "paper"}
    assert find_recipe("recipes/nano/reconstructor.yaml").is_file()
    assert find_recipe("recipes/nano/other.yaml") is None


def test_packaged_recipes_yield_to_files(tmp_path, monkeypatch):
    from vfusion3d.commands.train import _with_packaged_recipes

    monkeypatch.chdir(tmp_path)
    name = "recipes/nano/reconstructor.yaml"
    assert _with_packaged_recipes(["fit", "--config", name])[2] == str(find_recipe(name))
    assert _with_packaged_recipes(["fit", f"--config={name}"])[1] == f"--config={find_recipe(name)}"
    (tmp_path / "recipes" / "nano").mkdir(parents=True)
    (tmp_path / name).write_text("")
    assert _with_packaged_recipes(["fit", "--config", name])[2] == name


@pytest.mark.slow
def test_the_recipe_as_it_is_learns(tmp_path, monkeypatch):
    """Two epochs of the shipped recipe, unchanged but for their number: the loss falls."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["vfusion3d"])
    options = ["--trainer.max_epochs", "2", "--trainer.accelerator", "cpu", "--trainer.logger", "CSVLogger"]
    options += ["--trainer.logger.save_dir", str(tmp_path), "--data.init_args.samples_per_epoch", "160"]
    assert cli.main(["fit", "--config", "recipes/nano/reconstructor.yaml", *options]) == 0
    import csv

    with open(tmp_path / "lightning_logs" / "version_0" / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    # The opacity term hardly depends on which objects a step drew; the picture terms do.
    opacity = [float(row["train/opacity"]) for row in rows if row["train/opacity"]]
    psnr = [float(row["val/psnr"]) for row in rows if row["val/psnr"]]
    assert len(opacity) == 8 and opacity[-1] < 0.85 * opacity[0]
    assert len(psnr) == 2 and psnr[1] > psnr[0]


@pytest.mark.slow
def test_two_processes(tmp_path):
    """Two real processes, started by torchrun, follow the schedules, write pictures and the model, and end."""
    import subprocess

    options = [option for option in SHORT if option != "CSVLogger"]
    options.remove("--trainer.logger")
    command = [str(Path(__file__).parents[2] / "launch" / "torchrun.sh"), *options]
    command += ["--trainer.default_root_dir", str(tmp_path), "--trainer.strategy", "ddp", "--trainer.max_epochs", "2"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "GPUS": "2", "PORT": "29511"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=800, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    folder = tmp_path / "lightning_logs" / "version_0"
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["samples_seen"] == 8 and state["global_step"] == 2  # 4 samples an epoch, 2 + 2 a step
    assert (folder / "model" / "model.safetensors").is_file() and len(list(folder.glob("novel_views_*.png"))) == 2
