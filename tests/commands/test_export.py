"""Training checkpoints, with and without averaged weights, to model folders."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch.callbacks import EMAWeightAveraging

from tests.trainers import quiet_trainer
from vfusion3d import cli
from vfusion3d.callbacks import ExportModel
from vfusion3d.data import ProceduralDataModule
from vfusion3d.models import ReconstructorConfig, TriplaneReconstructor
from vfusion3d.training import LossWeights, PatchSettings, ReconstructorTraining
from vfusion3d.training.lineage import reconstructor_lineage


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A folder with the checkpoint of two steps with averaged weights, and what ExportModel made of them."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    module = ReconstructorTraining(
        "tiny",
        changes={"field_dim": 8},
        losses=LossWeights(perceptual=0.0, l2=1.0),
        patches=PatchSettings(size=8, recompute=False),
    )
    callbacks = [EMAWeightAveraging(decay=0.5), Save(folder / "run.ckpt"), ExportModel(license="CC-BY-4.0")]
    trainer = quiet_trainer(folder, enable_checkpointing=False, callbacks=callbacks)
    trainer.fit(module, ProceduralDataModule(samples_per_epoch=4, batch_size=2, views=2, resolution=16, val_samples=1))
    return folder


class Save(ExportModel):
    """Saves a checkpoint after the second step, where the average and the last weights differ."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.save_checkpoint(self.path)

    def on_fit_end(self, trainer, pl_module):
        pass


def export(run: Path, output: Path, *options: str) -> int:
    return cli.main(["export", str(run / "run.ckpt"), "--output", str(output), *options])


def weights(model: TriplaneReconstructor) -> torch.Tensor:
    return torch.cat([value.flatten() for value in model.state_dict().values()])


def card(folder: Path) -> tuple[dict, str]:
    _, header, text = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(header), text


def test_averaged_weights_are_the_default(run, tmp_path, capsys):
    saved = torch.load(run / "run.ckpt", weights_only=True)
    assert export(run, tmp_path / "ema", "--name", "mine") == 0
    said = capsys.readouterr().out
    assert f"{tmp_path / 'ema'}: mine, " in said and "averaged" in said and "--model" in said
    assert export(run, tmp_path / "last", "--no-ema", "--half", "--license", "my own") == 0
    averaged, last = (TriplaneReconstructor.from_pretrained(tmp_path / name) for name in ("ema", "last"))
    assert averaged.config.field_dim == 8 and averaged.config.name == "mine" and last.config.license == "my own"
    for model, key, tolerance in ((averaged, "state_dict", 0), (last, "current_model_state", 1e-3)):
        expected = torch.cat([saved[key][f"model.{name}"].flatten() for name in model.state_dict()])
        torch.testing.assert_close(weights(model), expected, atol=tolerance, rtol=0)
    assert not torch.equal(
        saved["state_dict"]["model.decoder.positions"], saved["current_model_state"]["model.decoder.positions"]
    )
    size = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("ema", "last")]
    assert size[1] < 0.6 * size[0]
    header, text = card(tmp_path / "last")
    assert (
        header["license"] == "other" and header["license_name"] == "my own" and "| weights | of the last step |" in text
    )


def test_the_card_says_what_the_checkpoint_knows(run, tmp_path):
    assert export(run, tmp_path / "model") == 0
    header, text = card(tmp_path / "model")
    assert header["license"] == "apache-2.0" and header["library_name"] == "vfusion3d"
    assert header["pipeline_tag"] == "image-to-3d" and "image-to-3d" in header["tags"]
    for row in (
        "training samples seen | 4",
        "steps | 2",
        "started from | random weights",
        "weights | a running average (EMA)",
    ):
        assert f"| {row} |" in text
    assert "perceptual: 0.0" in text and "size: 8" in text  # losses and patches
    assert "## What the weights come from\n\n- Training data: CC0-1.0\n" in text
    assert "Data, schedules: unknown." in text and "## Figures\n\nunknown." in text  # a run in Python has no recipe


def test_export_when_training_ends_equals_the_command(run, tmp_path):
    """The callback writes the averaged weights, and knows the last validation."""
    assert export(run, tmp_path / "model") == 0
    folder = run / "model"
    ours, theirs = (TriplaneReconstructor.from_pretrained(path) for path in (folder, tmp_path / "model"))
    torch.testing.assert_close(weights(ours), weights(theirs))
    header, text = card(folder)
    assert header["license"] == "cc-by-4.0" and "| val/psnr | " in text and " dB |" in text
    assert ours.config.lineage == theirs.config.lineage == ("Training data: CC0-1.0",)


def test_what_it_may_be_used_for(run, capsys):
    for path, kind, terms in (
        (str(run / "run.ckpt"), "training checkpoint", "permissive"),
        (str(run / "model"), "reconstructor", "attribution"),
        ("nano", "reconstructor", "attribution"),
    ):
        assert cli.main(["licenses", path, "--json"]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert (answer["kind"], answer["terms"]) == (kind, terms)
    assert cli.main(["licenses", str(run / "nothing")]) == 2
    assert capsys.readouterr().err == (
        f"vfusion3d licenses: The path {run / 'nothing'} does not exist: give a shard set, a run's folder, a model's "
        "folder, a .ckpt file or scene folders.\n"
    )
    config = dataclasses.replace(ReconstructorConfig.preset("vfusion3d"), lineage=("Training data: CC-BY-4.0",))
    assert reconstructor_lineage({"weights": "facebook/vfusion3d"}, config, None) == (
        "Started from facebook/vfusion3d: CC-BY-NC-4.0",
        "Training data: CC-BY-4.0",
        "The licences of the training data were not recorded.",
    )


def test_only_an_earlier_export_is_replaced(run, tmp_path, capsys):
    assert export(run, tmp_path / "model") == 0
    (tmp_path / "model" / "held_out.txt").write_text("cat\n")
    assert export(run, tmp_path / "model") == 2
    assert "already exists; choose another folder or allow overwriting it" in capsys.readouterr().err
    assert export(run, tmp_path / "model", "--overwrite", "--half") == 0
    assert (tmp_path / "model" / "held_out.txt").read_text() == "cat\n"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("")
    assert export(run, tmp_path / "other", "--overwrite") == 2
    assert "is no earlier result" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["thesis.tex"]


def test_bad_checkpoints_are_one_sentence_and_leave_nothing(run, tmp_path, capsys):
    saved = torch.load(run / "run.ckpt", weights_only=True)
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    torch.save({**saved, "hyper_parameters": {"width": 3}}, tmp_path / "foreign.ckpt")
    torch.save({key: value for key, value in saved.items() if key != "state_dict"}, tmp_path / "partial.ckpt")
    fewer = dict(saved["state_dict"])
    del fewer["model.decoder.positions"]
    torch.save({**saved, "state_dict": fewer}, tmp_path / "fewer.ckpt")
    for name, expected in (
        ("missing", "does not exist or may not be read; check the path."),
        ("text", "is truncated or was not written by a training run; give a .ckpt file of a run."),
        ("partial", "is truncated or was not written by a training run; give a .ckpt file of a run."),
        ("foreign", "another module than ReconstructorTraining and VideoFineTuner, which alone are exported; give"),
        ("fewer", "(1 missing, unexpected or of another shape, for example decoder.positions); give"),
    ):
        path = tmp_path / f"{name}.ckpt"
        assert cli.main(["export", str(path), "--output", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"vfusion3d export: The checkpoint {path} ") and expected in error
        assert error.count("\n") == 1
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*"))


def test_checkpoints_of_older_versions(run, tmp_path):
    """Those held only the architecture's name and its changes."""
    saved = torch.load(run / "run.ckpt", weights_only=True)
    del saved["vfusion3d_model"]
    torch.save(saved, tmp_path / "run.ckpt")
    assert export(tmp_path, tmp_path / "model") == 0
    assert TriplaneReconstructor.from_pretrained(tmp_path / "model").config.field_dim == 8
    assert TriplaneReconstructor.from_pretrained(tmp_path / "model").config.lineage == ("Training data: CC0-1.0",)
    assert "| vfusion3d | unknown |" in (tmp_path / "model" / "README.md").read_text()
