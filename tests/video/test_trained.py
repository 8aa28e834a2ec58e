import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.video.diffusers_folders import stirred, write_model
from vfusion3d.cameras import Rig
from vfusion3d.errors import CheckpointError, OutputError
from vfusion3d.video import OrbitGenerator, VideoModelConfig, create_backbone, load_video_model, save_video_model
from vfusion3d.video.trainable import choose_trainable, trainable_state
from vfusion3d.video.trained import read_video_config

RIG = Rig(radius=2.5, fov=45.0, direction=-1, frames=4)


def trained(source: str, train: str) -> tuple:
    torch.manual_seed(3)
    backbone = create_backbone("emu", source, frames=4)
    choose_trainable(backbone, train, rank=2)
    stirred(backbone.denoiser) if source == "tiny" else None
    for value in trainable_state(backbone).values():
        value.add_(torch.randn_like(value) * 0.05)
    config = VideoModelConfig(
        *("emu", source, train, RIG, 16), rank=2, options={"frames": 4}, name="mine", licence="CC-BY-4.0", samples=8,
        lineage=("Base: some licence.",),
    )  # fmt: skip
    return backbone, config


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    return str(write_model(tmp_path_factory.mktemp("base"), "emu"))


@pytest.fixture(scope="module")
def saved(base, tmp_path_factory) -> tuple:
    """A model with trained temporal layers, and its folder."""
    backbone, config = trained(base, "temporal")
    folder = tmp_path_factory.mktemp("trained") / "model"
    save_video_model(backbone, folder, config)
    return backbone, folder


def assert_alike(one, other, **tolerance) -> None:
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(theirs[name], value, **({"rtol": 0, "atol": 0} | tolerance))


def test_only_what_was_trained_is_saved(saved, base):
    backbone, folder = saved
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "trained.safetensors", "video.json"]
    state = load_file(folder / "trained.safetensors")
    assert state.keys() == trainable_state(backbone).keys()
    assert all(re.search(backbone.temporal, name) for name in state)
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1  # who may read one may read all
    loaded = load_video_model(folder)
    assert not loaded.training
    assert_alike(backbone, loaded)
    config = read_video_config(folder)
    assert config.rig == RIG and (config.source, config.size, config.samples, config.steps) == (base, 16, 8, None)


def test_the_generator_takes_rig_size_and_licences_from_it(saved):
    generate = OrbitGenerator.from_pretrained(saved[1], steps=1)
    assert (generate.rig, generate.size) == (RIG, 16)
    assert generate.about() == {
        "name": "mine",
        "source": str(saved[1]),
        "backbone": "emu",
        "licence": "CC-BY-4.0",
        "lineage": ["Base: some licence."],
    }


def test_low_rank_updates_and_half_precision(base, tmp_path):
    backbone, config = trained(base, "lora")
    save_video_model(backbone, tmp_path / "model", config, half=True)
    state = load_file(tmp_path / "model" / "trained.safetensors")
    assert all("lora_" in name for name in state) and {value.dtype for value in state.values()} == {torch.float16}
    assert_alike(backbone, load_video_model(tmp_path / "model"), rtol=1e-3, atol=1e-4)


def test_random_weights_are_saved_whole(tmp_path):
    """There is nowhere else to have them from."""
    backbone, config = trained("tiny", "temporal")
    save_video_model(backbone, tmp_path / "model", config)
    torch.manual_seed(99)
    assert_alike(backbone, load_video_model(tmp_path / "model"))


def test_the_card(saved):
    _, header, text = (saved[1] / "README.md").read_text().split("---\n", 2)
    values = yaml.safe_load(header)
    assert values["license"] == "cc-by-4.0" and values["pipeline_tag"] == "image-to-video"
    assert "4 frames of 16 x 16\npixels, clockwise" in text and "- Base: some licence." in text
    assert "| training samples seen | 8 |" in text and "| steps | unknown |" in text and "frames: 4" in text


def test_all_or_nothing(saved, tmp_path, monkeypatch):
    backbone, folder = saved
    copy = Path(shutil.copytree(folder, tmp_path / "model"))
    (copy / "notes.txt").write_text("mine")
    config = read_video_config(folder)
    with pytest.raises(OutputError, match="already exists"):
        save_video_model(backbone, copy, config)
    save_video_model(backbone, copy, config, overwrite=True)
    assert (copy / "notes.txt").read_text() == "mine"
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    monkeypatch.setattr("vfusion3d.video.trained.video_card", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_video_model(backbone, copy, config, overwrite=True)
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def change(**values):
    def edit(folder: Path) -> None:
        path = folder / "video.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return edit


def without(key: str):
    def edit(folder: Path) -> None:
        values = json.loads((folder / "video.json").read_text())
        del values[key]
        (folder / "video.json").write_text(json.dumps(values))

    return edit


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda f: (f / "video.json").unlink(), "holds no video.json, so it is no trained video model: give"),
        (lambda f: (f / "video.json").write_text("{"), "video.json cannot be read as JSON .*: export the model again"),
        (lambda f: (f / "video.json").write_text("[]"), "video.json is not a JSON object"),
        (change(colour="red"), "video.json cannot be used: it has the unknown key 'colour'; use the version"),
        (without("rig"), "it lacks the key 'rig'"),
        (change(size="large"), "its 'size' cannot be 'large'"),
        (change(train="much"), "its 'train' must be one of temporal, all, lora"),
        (change(rig={"radius": 2.0}), "its 'rig' cannot be used"),
        (change(rig={"radius": -2.0, "fov": 40.0}), "its 'rig' cannot be used .*`radius` must be positive"),
        (change(backbone="sora"), "cannot be built: Argument `backbone` must be one of"),
        (change(source="/nowhere"), "There is no folder '/nowhere'"),
        (change(train="all"), "trained.safetensors cannot be used: .* are missing"),
        (lambda f: (f / "trained.safetensors").unlink(), "holds no trained.safetensors"),
        (
            lambda f: (f / "trained.safetensors").write_bytes((f / "trained.safetensors").read_bytes()[:5000]),
            "trained.safetensors is not a complete safetensors file .*: copy or download it again",
        ),
    ],
)
def test_what_cannot_be_used_is_one_sentence(saved, tmp_path, edit, words):
    folder = Path(shutil.copytree(saved[1], tmp_path / "model"))
    edit(folder)
    with pytest.raises(CheckpointError, match=words) as caught:
        load_video_model(folder)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_names_that_are_no_model(saved, tmp_path):
    for name, words in (
        ("", "Unknown video model ''"),
        ("./nowhere", "Unknown video model './nowhere'"),
        (str(saved[1] / "video.json"), "is a file: give the folder"),
        ("nobody/nothing", "'nobody/nothing' is not on this machine and the Hugging Face hub cannot be reached"),
    ):
        with pytest.raises(CheckpointError, match=words):
            load_video_model(name)


def test_hub(saved, monkeypatch):
    monkeypatch.setattr("vfusion3d.hub.get_hf_file_metadata", lambda *arguments, **options: None)
    monkeypatch.setattr(
        "vfusion3d.video.trained.hf_hub_download", lambda name, file, local_files_only: f"{saved[1]}/{file}"
    )
    assert_alike(saved[0], load_video_model("some/body"))
