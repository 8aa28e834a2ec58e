"""Released models from folders in diffusers' layout and from the hub, and every way in which they cannot be loaded."""

from __future__ import annotations

import json
import logging
import shutil

import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError
from safetensors.torch import load_file, save_file

from tests.video.diffusers_folders import SVD, write_model
from vfusion3d.errors import CheckpointError, UsageError
from vfusion3d.video import create_backbone
from vfusion3d.video.loading import announce_licence, find_model, load_component

BACKBONES = {"svd": "svd", "i2vgen": "i2vgen", "emu": "emu", "image": "emu", "modelscope": "emu"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {kind: write_model(root / kind, kind) for kind in BACKBONES}


@pytest.fixture
def svd(folders, tmp_path):
    """A copy to damage."""
    return shutil.copytree(folders["svd"], tmp_path / "svd")


def check(folder, sentence, name="svd"):
    with pytest.raises(CheckpointError, match=sentence) as caught:
        create_backbone(name, str(folder))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize("kind", BACKBONES)
@torch.no_grad()
def test_a_released_folder(folders, kind, capfd, tmp_path):
    """Loads, prints nothing, encodes, denoises, and comes back from what it saves."""
    backbone = create_backbone(BACKBONES[kind], str(folders[kind]), frames=2)
    assert capfd.readouterr().out == ""
    assert not backbone.training and not backbone.codec.vae.training

    images = torch.rand(1, 3, 16, 16)
    latents = backbone.encode(torch.rand(1, 2, 3, 16, 16))
    conditioning = backbone.condition(images, ["chair"] if backbone.reads_text else None)
    pair = backbone.process.pair(latents, torch.randn_like(latents), backbone.process.levels(torch.tensor([0.5])))
    raw = backbone(pair.inputs, pair.timesteps, conditioning)
    assert raw.shape == latents.shape == (1, 2, 4, 8, 8) and raw.isfinite().all()
    assert backbone.decode(latents).shape == (1, 2, 3, 16, 16)

    copy = shutil.copytree(folders[kind], tmp_path / "copy", ignore=shutil.ignore_patterns("unet"))
    backbone.denoiser.save_pretrained(copy / "unet")
    loaded = create_backbone(BACKBONES[kind], str(copy), frames=2)
    torch.testing.assert_close(loaded(pair.inputs, pair.timesteps, conditioning), raw)


def test_the_licence_is_named_once(folders, caplog):
    announce_licence.cache_clear()
    with caplog.at_level(logging.WARNING, "vfusion3d"):
        models = [create_backbone("svd", str(folders["svd"])) for _ in range(2)]
    assert [record.getMessage() for record in caplog.records] == [f"{folders['svd']}: {models[0].licence}"]
    assert "derivative works" in models[0].licence


def test_shards(svd):
    whole = load_component(svd, "unet", UNetSpatioTemporalConditionModel)
    shutil.rmtree(svd / "unet")
    whole.save_pretrained(svd / "unet", max_shard_size="3MB")
    shards = sorted((svd / "unet").glob("*.safetensors"))
    assert len(shards) > 1
    for name, weight in load_component(svd, "unet", UNetSpatioTemporalConditionModel).state_dict().items():
        assert torch.equal(weight, whole.state_dict()[name]), name
    shards[-1].write_bytes(shards[-1].read_bytes()[:3000])
    check(svd, f"{shards[-1].name} is not a complete safetensors file")
    shards[-1].unlink()
    check(svd, f"{shards[-1].name} is missing")


def test_what_is_not_there(svd, tmp_path):
    check(tmp_path / "nowhere", "There is no folder '.*nowhere'")
    check("./nowhere/at/all", "There is no folder './nowhere/at/all'")
    shutil.rmtree(svd / "image_encoder")
    check(svd, "has no folder image_encoder/: give a model in diffusers' layout with unet, vae, image_encoder")
    (svd / "image_encoder").mkdir()
    check(svd, "image_encoder holds no weights")
    shutil.copy(svd / "vae" / "diffusion_pytorch_model.safetensors", svd / "image_encoder" / "model.safetensors")
    check(svd, "image_encoder holds no config.json")
    weights = svd / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    check(svd, "only pickled weights")
    weights.with_suffix(".bin").unlink()
    check(svd, "unet holds no weights")


def test_a_model_of_another_kind(folders, svd):
    check(folders["image"], "has no folder image_encoder/")
    check(folders["svd"], "has no folder text_encoder/", "i2vgen")  # the text encoder that it needs is missing
    shutil.rmtree(svd / "unet")
    shutil.copytree(folders["image"] / "unet", svd / "unet")
    check(svd, "holds a UNet2DConditionModel, but a UNetSpatioTemporalConditionModel is needed")
    (svd / "unet" / "config.json").write_text("{")
    check(svd, "cannot be read as JSON")
    (svd / "unet" / "config.json").write_text("[]")
    check(svd, "is not a JSON object")


@pytest.mark.parametrize("changes", [{"in_channels": 9}, {"block_out_channels": [32]}, {"layers_per_block": 2}])
def test_weights_of_another_architecture(svd, changes):
    path = svd / "unet" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    check(svd, r"weights in .*unet do not fit its config.json \(.+\): give both")


@pytest.mark.parametrize("component", ["unet", "image_encoder"])
def test_weights_too_few_and_too_many(svd, component):
    """Neither diffusers nor transformers minds; one would start from chance."""
    path = next((svd / component).glob("*.safetensors"))
    state = load_file(path)
    lost = next(name for name in state if name.endswith("weight"))
    state["stray.weight"] = state.pop(lost).clone()
    save_file(state, path, metadata={"format": "pt"})
    check(svd, f"{component} do not fit its config.json: 1 missing, 1 unexpected and 0 .*{lost}")


def test_components_of_several_models(svd):
    UNetSpatioTemporalConditionModel(**SVD, in_channels=9, out_channels=4).save_pretrained(svd / "unet")
    check(svd, "needs 8 input and 4 output channels for latents of 4, but has 9 and 4")
    UNetSpatioTemporalConditionModel(**{**SVD, "cross_attention_dim": 64}).save_pretrained(svd / "unet")
    check(svd, "attends to vectors of 64 numbers, but the image_encoder makes 32")


def test_a_broken_tokenizer(folders, tmp_path):
    copy = shutil.copytree(folders["i2vgen"], tmp_path / "i2vgen")
    shutil.rmtree(copy / "tokenizer")
    (copy / "tokenizer").mkdir()
    check(copy, "tokenizer holds no vocab.json or tokenizer.json", "i2vgen")
    (copy / "tokenizer" / "vocab.json").write_text("{")
    check(copy, "tokenizer holds no CLIPTokenizer that can be read", "i2vgen")


def test_options_of_a_released_model(folders):
    with pytest.raises(UsageError, match="svd has no option 'colour'"):
        create_backbone("svd", str(folders["svd"]), colour="red")
    assert create_backbone("svd", str(folders["svd"]), fps=3, motion_bucket=9).fps == 3


def test_the_hub(folders, monkeypatch):
    asked = {}

    def download(name, *, allow_patterns, ignore_patterns, local_files_only):
        asked.update(name=name, allowed=allow_patterns, local=local_files_only)
        if isinstance(reply, Exception):
            raise reply
        return str(reply)

    monkeypatch.setattr("vfusion3d.video.loading.hub_answers", lambda name, file: file == "model_index.json")
    monkeypatch.setattr("vfusion3d.video.loading.snapshot_download", download)
    reply = folders["svd"]
    assert find_model("some/body", ("unet", "vae")) == folders["svd"] and not asked["local"]
    assert "unet/*.safetensors" in asked["allowed"] and not any(".bin" in name for name in asked["allowed"])
    reply = LocalEntryNotFoundError("no\nnetwork")
    check("some/body", "'some/body' is not on this machine and the Hugging Face hub cannot be reached")
    reply = RepositoryNotFoundError.__new__(RepositoryNotFoundError)
    check("some/body", "no model 'some/body' that you may read")
    reply = OSError("line\nlost")
    check("some/body", r"could not be downloaded from the Hugging Face hub \(line\): try again")


def test_without_network():
    check("nobody/nothing", r"'nobody/nothing' is not on this machine and the Hugging Face hub cannot be reached")
