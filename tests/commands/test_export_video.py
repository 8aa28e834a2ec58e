"""Checkpoints of video models to folders that `vfusion3d orbit` takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from safetensors.torch import load_file

from tests.trainers import quiet_trainer
from tests.video.diffusers_folders import write_model
from vfusion3d import OrbitGenerator, cli
from vfusion3d.callbacks import ExportModel
from vfusion3d.data import ProceduralOrbitDataModule
from vfusion3d.training import VideoFineTuner
from vfusion3d.training.export_video import video_lineage
from vfusion3d.training.video import VIDEO
from vfusion3d.video.trained import load_video_model, read_video_config


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A folder with the checkpoint of two steps of temporal layers, with averaged weights."""
    folder = tmp_path_factory.mktemp("run")
    source = write_model(folder / "base", "emu")
    torch.manual_seed(0)
    module = VideoFineTuner("emu", str(source), changes={"frames": 2}, drop_text=0.0)
    data = ProceduralOrbitDataModule(samples_per_epoch=2, batch_size=1, views=2, resolution=16, val_samples=0)
    callbacks = [EMAWeightAveraging(decay=0.5), ExportModel(str(folder / "model"), name="mine")]
    trainer = quiet_trainer(folder, enable_checkpointing=False, callbacks=callbacks)
    trainer.fit(module, data)
    trainer.save_checkpoint(folder / "run.ckpt")
    return folder


def export(path: Path, output: Path, *options: str) -> int:
    return cli.main(["export", str(path), "--output", str(output), *options])


def test_what_was_trained_is_exported_and_generates(run, tmp_path, capsys):
    saved = torch.load(run / "run.ckpt", weights_only=True)
    assert export(run / "run.ckpt", tmp_path / "last", "--no-ema", "--name", "mine", "--license", "CC-BY-4.0") == 0
    said = capsys.readouterr().out
    assert (
        f"{tmp_path / 'last'}: mine, what was trained of emu (temporal)" in said and "vfusion3d orbit PICTURE" in said
    )
    assert export(run / "run.ckpt", tmp_path / "ema") == 0
    for name, key in (("last", "current_model_state"), ("ema", "state_dict")):
        state = load_file(tmp_path / name / "trained.safetensors")
        assert state and {f"backbone.{name}" for name in state} == set(saved[key])
        for weight, value in state.items():
            torch.testing.assert_close(value, saved[key][f"backbone.{weight}"], rtol=0, atol=0)
    config = read_video_config(tmp_path / "last")
    assert (config.train, config.size, config.samples, config.steps) == ("temporal", 16, 2, 2)
    assert config.rig.frames == 2 and config.licence == "CC-BY-4.0"
    assert config.lineage[0].startswith(f"{run / 'base'}: ") and config.lineage[1] == "Training data: CC0-1.0"
    generate = OrbitGenerator.from_pretrained(tmp_path / "last", steps=1)
    assert generate(torch.rand(3, 16, 16)).shape == (2, 3, 16, 16)


def test_a_run_exports_itself(run, tmp_path):
    """As the command does; of a preset also what was trained of it, since the run has the rest."""
    assert export(run / "run.ckpt", tmp_path / "ema", "--name", "mine") == 0
    ours, theirs = (load_file(folder / "trained.safetensors") for folder in (run / "model", tmp_path / "ema"))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert read_video_config(run / "model") == read_video_config(tmp_path / "ema")
    module = VideoFineTuner("svd", "tiny", changes={"frames": 2}, drop_text=0.0)
    data = ProceduralOrbitDataModule(samples_per_epoch=1, batch_size=1, views=2, resolution=16, val_samples=0)
    quiet_trainer(tmp_path, callbacks=[ExportModel(str(tmp_path / "model"))]).fit(module, data)
    loaded = load_video_model(tmp_path / "model").state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in module.backbone.state_dict().items())


def test_what_it_may_be_used_for(run, tmp_path, capsys):
    """Of a checkpoint, of what was exported, and of what was trained on from that."""
    assert export(run / "run.ckpt", tmp_path / "model", "--license", "CC-BY-4.0") == 0
    capsys.readouterr()
    for path, kind, own in ((run / "run.ckpt", "training checkpoint", []), (tmp_path / "model", "video model", [1])):
        assert cli.main(["licenses", str(path), "--json"]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert (answer["kind"], answer["terms"]) == (kind, "conditions")
        assert [row["terms"] for row in answer["findings"]] == [
            "conditions",
            *["attribution" for _ in own],
            "permissive",
        ]
        assert answer["findings"][0]["licence"] == "OpenRAIL-M" and str(run / "base") in answer["findings"][0]["says"]
    further = VideoFineTuner(weights=str(tmp_path / "model"))
    about = {**further._about}
    assert video_lineage(about, ["CC-BY-NC-4.0"]) == (
        *(f"{run / 'base'}: {further.backbone.licence}", f"Started from {tmp_path / 'model'}: CC-BY-4.0"),
        *("Training data: CC0-1.0", "Training data: CC-BY-NC-4.0"),
    )


def test_what_cannot_be_exported_is_one_sentence(run, tmp_path, capsys):
    saved = torch.load(run / "run.ckpt", weights_only=True)
    fewer = dict(saved["state_dict"])
    fewer.popitem()
    for change, words in (
        ({VIDEO: {**saved[VIDEO], "source": "tiny"}}, "holds only what was trained of them (temporal); train `all`"),
        ({VIDEO: {**saved[VIDEO], "rig": None}}, "does not say on which orbits it was trained; train on data that"),
        ({"state_dict": fewer}, "cannot be exported: The trained weights do not fit this emu model: 1 of them are"),
    ):
        torch.save({**saved, **change}, tmp_path / "bad.ckpt")
        assert export(tmp_path / "bad.ckpt", tmp_path / "out") == 2
        error = capsys.readouterr().err
        assert error.startswith(f"vfusion3d export: The checkpoint {tmp_path / 'bad.ckpt'} ") and words in error
        assert error.count("\n") == 1 and error.endswith(".\n")
    assert not (tmp_path / "out").exists()
