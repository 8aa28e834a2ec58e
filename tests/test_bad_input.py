"""Bad input through the command line: one sentence on standard error, exit code 2 and nothing left behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import lightning.pytorch  # noqa: F401 - its log keeps the standard error of its first import: not a test's
import pytest
import torch
import yaml
from PIL import Image, ImageDraw

from vfusion3d import ReconstructorConfig, TriplaneReconstructor
from vfusion3d.cli import main
from vfusion3d.errors import MissingExtraError

RECIPE = {
    "trainer": {"accelerator": "cpu", "max_epochs": 1, "logger": False, "enable_checkpointing": False},
    "model": {
        "class_path": "vfusion3d.ReconstructorTraining",
        "init_args": {"architecture": "tiny", "losses": {"perceptual": 0.0}, "patches": {"size": 8}},
    },
    "data": {
        "class_path": "vfusion3d.ProceduralDataModule",
        "init_args": {"samples_per_epoch": 2, "batch_size": 2, "resolution": 16, "val_samples": 2},
    },
    "resolution": {"resolutions": [16], "epochs": [1]},
}
PROGRESS = re.compile(r"/(s|mesh|chunk|part|view|step)\]\s*$")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A folder with one of each bad thing, and a good picture, model and recipe."""
    folder = tmp_path_factory.mktemp("bad")
    _draw_pictures(folder)
    _save_models(folder)
    (folder / "faceless.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\n")
    (folder / "nan.obj").write_text("v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    (folder / "good.yaml").write_text(yaml.safe_dump(RECIPE))
    (folder / "broken.yaml").write_text("a: [1\n")
    (folder / "empty.yaml").write_text("")
    shutil.copy(folder / "ball.png", folder / "picture.yaml")
    (folder / "text.ckpt").write_text("no checkpoint")
    torch.save({"weights": torch.zeros(1)}, folder / "state.ckpt")
    foreign = {"state_dict": {"weights": torch.zeros(1)}, "pytorch-lightning_version": "2.6.0"}
    torch.save(foreign, folder / "foreign.ckpt")
    (folder / "file").write_text("")
    return folder


def _draw_pictures(folder: Path) -> None:
    ball = Image.new("RGB", (96, 96), "white")
    ImageDraw.Draw(ball).ellipse((25, 15, 70, 80), fill="red")
    ball.save(folder / "ball.png")
    (folder / "cut.png").write_bytes((folder / "ball.png").read_bytes()[:200])
    (folder / "folder.png").mkdir()
    (folder / "text.png").write_text("no picture")
    (folder / "empty.png").write_bytes(b"")
    Image.new("RGB", (1, 1), "red").save(folder / "dot.png")
    Image.new("RGB", (20_000, 20), "red").save(folder / "long.png")
    Image.new("RGBA", (96, 96), (255, 0, 0, 0)).save(folder / "clear.png")
    Image.new("RGB", (96, 96), "white").save(folder / "blank.png")


def _save_models(folder: Path) -> None:
    torch.manual_seed(0)
    TriplaneReconstructor(ReconstructorConfig.preset("tiny", iso_threshold=0.5)).save_pretrained(folder / "model")
    for name in ("truncated", "other", "bert", "half"):
        shutil.copytree(folder / "model", folder / name)
    weights = folder / "truncated" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    config = json.loads((folder / "other" / "config.json").read_text())
    (folder / "other" / "config.json").write_text(json.dumps({**config, "transformer_layers": 3}))
    (folder / "bert" / "config.json").write_text('{"architectures": ["BertModel"], "hidden_size": 384}')
    (folder / "half" / "model.safetensors").unlink()


@pytest.fixture
def complain(files, tmp_path, monkeypatch, capsys):
    """Run a command in the folder of bad things and return what it says, having checked all the rest."""
    monkeypatch.chdir(files)
    before = sorted(files.rglob("*"))

    def call(*arguments: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["vfusion3d"])
        capsys.readouterr()
        assert main([argument.replace("OUT", str(tmp_path / "out")) for argument in arguments]) == 2
        lines = re.split(r"[\r\n]+", capsys.readouterr().err)
        sentences = [line for line in lines if line.strip() and not PROGRESS.search(line)]
        assert all(sentence.endswith(".") for sentence in sentences)
        kept = (tmp_path / "out", tmp_path / "out" / "failures.csv")
        assert [path for path in tmp_path.rglob("*") if path not in kept] == []
        assert sorted(files.rglob("*")) == before
        return sentences

    return call


def check(sentences: list[str], *expected: str) -> None:
    """One sentence for each string expected, with its words, separated by " ... ", in this order."""
    assert len(sentences) == len(expected), sentences
    for sentence, words in zip(sorted(sentences), expected, strict=True):
        assert re.search(".*".join(re.escape(part) for part in words.split(" ... ")), sentence), sentence


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        ("missing.png", "'missing.png' does not exist ... check the path"),
        ("folder.png", "'folder.png' is a folder ... name the picture files"),
        ("text.png", "'text.png' is not a picture ... convert it"),
        ("empty.png", "'empty.png' is an empty file ... save it again"),
        ("cut.png", "'cut.png' is truncated or damaged ... download it again"),
        ("dot.png", "'dot.png' is 1 x 1 pixels, too small ... at least 16"),
        ("long.png", "'long.png' is 20000 x 20 pixels ... crop it"),
        ("clear.png", "'clear.png' is fully transparent ... give a picture"),
        ("blank.png", "'blank.png' has no foreground ... give a picture"),
    ],
)
def test_pictures(complain, picture, words):
    check(complain("reconstruct", picture, "--output", "OUT", "--model", "model"), words)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("giant", "Unknown model 'giant' ... (nano)"),
        ("", "Unknown model '' ... (nano)"),
        ("./nowhere", "Unknown model './nowhere'"),
        ("ball.png", "ball.png is no weight file ... the folder that holds config.json"),
        ("folder.png", "folder.png holds no config.json ... save_pretrained"),
        ("half", "half holds no model.safetensors ... save_pretrained"),
        ("truncated", "truncated/model.safetensors is not a complete safetensors file ... copy or download it again"),
        ("other", "other/model.safetensors belongs to another architecture ... 24 missing ... give both files of one"),
        ("bert", "bert/config.json: Unknown key(s) architectures, hidden_size ... check the file"),
        ("nobody/nothing", "'nobody/nothing' is not on this machine ... cannot be reached ... connect"),
        ("no body/no?thing", "'no body/no?thing' cannot be a name on the Hugging Face hub"),
    ],
)
def test_models(complain, tmp_path, model, words):
    check(complain("reconstruct", "ball.png", "--output", "OUT", "--model", model), words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("reconstruct ball.png --output OUT --formats glb fbx", "Format 'fbx' is unknown; choose from glb, obj"),
        ("reconstruct ball.png --output OUT --formats", "--formats: expected at least one"),
        ("reconstruct ball.png --output OUT --resolution many", "resolution: expected int, but got many"),
        ("reconstruct ball.png --output OUT --resolution 4", "--resolution must be between 16 and 1024, but got 4"),
        ("reconstruct ball.png --output OUT --model model --device toaster", "Device 'toaster' ... use 'auto'"),
        ("reconstruct ball.png --output OUT --colour red", "--colour red; see `vfusion3d reconstruct --help`"),
        ("reconstruct ball.png", "required: output; see `vfusion3d reconstruct --help`"),
        ("reconstruct --output OUT", "required: images"),
        ("reconstruct ball.png --output file --model model", "'file' ... a file is in the way ... another folder"),
        ("reconstruct ball.png --output file/x --model model", "'file/x' ... a file is in the way"),
        ("render missing.glb --output OUT", "missing.glb does not exist ... check the path"),
        ("render folder.png --output OUT", "folder.png contains no meshes ... name another"),
        ("render nan.obj --output OUT --layout spiral", "--layout: invalid choice: 'spiral' ... 'orbit'"),
        ("render nan.obj --output OUT --views 0", "`views` must be at least 1, but got 0"),
        ("render nan.obj --output file --views 1", "'file' ... a file is in the way"),
        ("", "no command was given; name one"),
        ("orbit ball.png --output OUT --model ./nowhere", "Unknown video model './nowhere': give ... video.json"),
        ("orbit ball.png --output OUT --model model", "model holds no video.json ... vfusion3d export"),
        ("orbit ball.png --output OUT --model emu:huge", "no folder 'huge' ... owner/name on the Hugging Face hub"),
        ("orbit ball.png --output OUT --model sora:tiny", "`backbone` must be one of emu, i2vgen, svd, wan ... 'sora'"),
        ("orbit ball.png --output OUT --text a b", "--text must be one text or one for each of the 1 pictures"),
        ("orbit ball.png --output OUT --steps many", "steps: expected int, but got many"),
        ("orbit ball.png --output OUT --profile square", "--profile: invalid choice: 'square'"),
        ("orbit ball.png --output file --model emu:tiny", "'file' ... a file is in the way ... another folder"),
        ("orbit ball.png", "required: output; see `vfusion3d orbit --help`"),
        ("paint ball.png", "unknown command 'paint': use one of reconstruct"),
    ],
)
def test_options(complain, arguments, words):
    check(complain(*arguments.split()), words)


def test_meshes(complain):
    from vfusion3d.meshes.vtk_renderer import select_window

    try:
        select_window()
    except MissingExtraError as error:
        pytest.skip(str(error))
    check(
        complain("render", "faceless.obj", "nan.obj", "--output", "OUT", "--views", "1", "--workers", "1"),
        "2 of 2 meshes were not rendered; see ... failures.csv",
        "faceless.obj has no faces ... export it with triangles",
        "nan.obj has vertices that are NaN or infinite ... repair it",
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["reconstruct", "ball.png", "--model", "model"], "'OUT' cannot be written ... not permitted ... choose"),
        (["render", "nan.obj"], "'OUT' cannot be written ... not permitted ... choose another"),
    ],
)
def test_read_only_output_folder(complain, tmp_path, monkeypatch, arguments, words):
    def refuse(**options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)  # root may write anywhere
    check(complain(*arguments, "--output", "OUT"), words.replace("OUT", str(tmp_path / "out")))


def test_full_disk(complain, monkeypatch):
    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    options = ["--model", "model", "--resolution", "16", "--frames", "2", "--render-size", "16"]
    check(complain("reconstruct", "ball.png", "--output", "OUT", *options), "'ball.png' ... the disk is full ... free")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--config", "missing.yaml"], "missing.yaml does not exist ... recipes/nano/reconstructor.yaml"),
        (["--config", "folder.png"], "folder.png does not exist"),
        (["--config=broken.yaml"], "broken.yaml is no YAML ... in line 2"),
        (["--config", "picture.yaml"], "picture.yaml cannot be read as YAML"),
        (["--config", "empty.yaml"], "empty.yaml holds no keys"),
        ([], "required: fit.data, fit.model ... --config such as recipes/"),
        (["--colour", "red"], "unrecognized arguments: --colour red"),
    ],
)
def test_recipe_files(complain, options, words):
    check(complain("fit", *options), words)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("trainer.max_epoch", 1, "'trainer.max_epoch' ... `vfusion3d fit --help`"),
        ("trainer.max_epochs", "one", "trainer.max_epochs: expected int, but got one"),
        ("trainer.max_epochs", -5, "max_epochs ... -5; correct the recipe"),
        ("trainer.accelerator", "toaster", "toaster ... correct the recipe"),
        ("model.class_path", "vfusion3d.Nothing", "model: vfusion3d.Nothing: ... has no attribute"),
        ("model.init_args.losses.percptual", 1, "model: ... 'losses' does not accept option 'percptual'"),
        ("model.init_args.losses.l2", -1, "`l2` must not be negative, but got -1.0; correct the recipe"),
        ("model.init_args.architecture", "huge", "must be one of ... 'huge'; correct the recipe"),
        ("model.init_args.weights", "giant", "Unknown model 'giant'"),
        ("data.init_args.batchsize", 2, "data: vfusion3d.ProceduralDataModule: Option 'batchsize' is not accepted"),
        ("data", {"class_path": "vfusion3d.RenderedDataModule", "init_args": {"root": "x"}}, "x does not exist; name"),
        ("resolution.epochs", [-1], "`epochs` must hold positive numbers, but got [-1.0]; correct the recipe"),
        ("resolution.resolutions", "big", "resolutions: expected list, but got big"),
        ("ckpt_path", "missing.ckpt", "missing.ckpt does not exist ... check the path"),
        ("ckpt_path", "text.ckpt", "text.ckpt is truncated or was not written by a training run; give"),
        ("ckpt_path", "state.ckpt", "state.ckpt is truncated or was not written by a training run; give"),
        ("ckpt_path", "foreign.ckpt", "foreign.ckpt belongs to another architecture ... give"),
        ("trainer", {"default_root_dir": "file", "logger": True}, "file/lightning_logs' ... a file is in the way"),
    ],
)
def test_recipe_values(complain, files, key, value, words):
    recipe = json.loads(json.dumps(RECIPE))
    *path, last = key.split(".")
    place = recipe
    for part in path:
        place = place[part]
    place[last] = value
    (files / "good.yaml").write_text(yaml.safe_dump(recipe))
    check(complain("fit", "--config", "good.yaml"), words)


def test_a_bug_while_building_is_no_bad_input(files, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("a bug")

    monkeypatch.chdir(files)
    monkeypatch.setattr(sys, "argv", ["vfusion3d"])
    monkeypatch.setattr("vfusion3d.training.module.TriplaneReconstructor", fail)
    (files / "good.yaml").write_text(yaml.safe_dump(RECIPE))
    with pytest.raises(RuntimeError, match="a bug"):
        main(["fit", "--config", "good.yaml"])


@pytest.mark.parametrize("command", ["reconstruct", "orbit", "render", "fit", "validate"])
def test_help(command, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["vfusion3d"])
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("usage: vfusion3d ") and command in printed.out.splitlines()[0]


def test_interruption(files, tmp_path, monkeypatch, capsys):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.chdir(files)
    monkeypatch.setattr("vfusion3d.pipelines.ImageTo3DPipeline.prepare", interrupt)
    assert main(["reconstruct", "ball.png", "--output", str(tmp_path / "out"), "--model", "model"]) == 130
    assert capsys.readouterr().err == "vfusion3d reconstruct: interrupted.\n"
    assert not (tmp_path / "out").exists()


def test_full_disk_while_checkpointing(files, tmp_path, monkeypatch, capsys):
    """The last good checkpoint survives, and one sentence ends the training."""
    real, calls = os.fsync, []

    def full_the_second_time(number):
        calls.append(number)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        real(number)

    monkeypatch.chdir(files)
    monkeypatch.setattr(sys, "argv", ["vfusion3d"])
    monkeypatch.setattr("os.fsync", full_the_second_time)
    trainer = {**RECIPE["trainer"], "enable_checkpointing": True, "max_epochs": 4, "default_root_dir": str(tmp_path)}
    (files / "good.yaml").write_text(yaml.safe_dump({**RECIPE, "trainer": trainer}))
    assert main(["fit", "--config", "good.yaml"]) == 2
    last = [line for line in capsys.readouterr().err.splitlines() if "vfusion3d fit:" in line]
    assert len(last) == 1 and re.search(r"epoch=1-step=2\.ckpt' cannot be written: the disk is full; .* free", last[0])
    [kept] = (path for path in (tmp_path / "checkpoints").iterdir())
    assert kept.name == "epoch=0-step=1.ckpt" and torch.load(kept, weights_only=True)["global_step"] == 1


def test_training_that_diverges(files, tmp_path, monkeypatch, capsys):
    """Past the limit one sentence names the last good checkpoint."""

    def loss_terms(self, batch):
        loss = sum(parameter.sum() for parameter in self.model.parameters()) * 0
        return {"l2": (loss + (torch.nan if self.samples_seen >= 2 else 1.0), 1.0)}

    monkeypatch.chdir(files)
    monkeypatch.setattr(sys, "argv", ["vfusion3d"])
    monkeypatch.setattr("vfusion3d.training.ReconstructorTraining.loss_terms", loss_terms)
    trainer = {**RECIPE["trainer"], "enable_checkpointing": True, "max_epochs": 9, "default_root_dir": str(tmp_path)}
    skipping = {"class_path": "vfusion3d.callbacks.SkipNonFinite", "init_args": {"limit": 2}}
    saving = {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"save_top_k": -1}}
    trainer["callbacks"] = [skipping, saving]
    (files / "good.yaml").write_text(yaml.safe_dump({**RECIPE, "trainer": trainer}))
    assert main(["fit", "--config", "good.yaml"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"fit: Training ended at step 4: .* of 3 steps in a row .* is .*epoch=2-step=3\.ckpt \(", last)
    for path in (tmp_path / "checkpoints").iterdir():
        assert all(bool(v.isfinite().all()) for v in torch.load(path, weights_only=True)["state_dict"].values())


def test_interrupted_training(files, monkeypatch, capsys):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.chdir(files)
    monkeypatch.setattr(sys, "argv", ["vfusion3d"])
    monkeypatch.setattr("vfusion3d.training.ReconstructorTraining.training_step", interrupt)
    (files / "good.yaml").write_text(yaml.safe_dump(RECIPE))
    handler = signal.getsignal(signal.SIGINT)
    try:
        assert main(["fit", "--config", "good.yaml"]) == 130
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning switches it off
    assert capsys.readouterr().err.endswith("vfusion3d fit: interrupted.\n")
