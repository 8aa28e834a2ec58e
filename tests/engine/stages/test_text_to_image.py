"""A tiny Stable Diffusion: pictures of items, what they depend on, and what is not loaded."""

from __future__ import annotations

import io
import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTokenizer

from tests.video.diffusers_folders import IMAGE_UNET, image_vae, stirred, text_encoder, write_tokenizer
from vfusion3d.engine import TextToImage
from vfusion3d.errors import CheckpointError, UsageError


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("models")
    write_tokenizer(root / "letters")
    folder = root / "sd"
    StableDiffusionPipeline(
        vae=image_vae(),
        text_encoder=stirred(text_encoder()),
        tokenizer=CLIPTokenizer.from_pretrained(root / "letters", model_max_length=12),
        unet=stirred(UNet2DConditionModel(**IMAGE_UNET)),
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
    ).save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: creativeml-openrail-m\n---\nA model.\n")
    return folder


def stage(folder, **options):
    return TextToImage(str(folder), "{prompt}", **{"steps": 2, "device": "cpu", **options})


def pictures(result):
    return [np.asarray(Image.open(io.BytesIO(file))).astype(int) for file in result["image"].to_pylist()]


def test_pictures(model, capfd):
    """The same alone and in a batch, others for other ids, prompts and seeds; seeds and licence beside them."""
    table = pa.table({"id": ["a", "b", "c"], "prompt": ["owl", "owl", "cup"]})
    one = stage(model)
    result = one(table)
    together = pictures(result)
    assert [picture.shape for picture in together] == [(16, 16, 3)] * 3
    for row in range(3):
        alone = pictures(one(table.slice(row, 1)))[0]
        assert abs(alone - together[row]).max() <= 1
    assert abs(together[0] - together[1]).max() > 8  # another id
    renamed = pa.table({"id": ["a", "b", "a2"], "prompt": ["cup", "owl", "cup"]})
    assert abs(pictures(one(renamed))[0] - together[0]).max() > 1  # another prompt
    assert abs(pictures(stage(model, seed=1)(table))[0] - together[0]).max() > 8
    assert len(set(result["image_seed"].to_pylist())) == 3
    assert set(result["image_licence"].to_pylist()) == {f"Text-to-image model {model}: creativeml-openrail-m"}
    assert stage(model, licence="agreed")(table.slice(0, 1))["image_licence"][0].as_py().endswith(": agreed")
    assert capfd.readouterr().out == ""


def test_options_reach_the_pipeline(model):
    table = pa.table({"id": ["a"], "prompt": ["owl"]})
    larger = stage(model, size=24, negative_prompt="cup", guidance=3.0)
    assert pictures(larger(table))[0].shape == (24, 24, 3)
    larger.template = "{prompt}, 3D render"
    calls = []
    larger.pipeline = lambda **options: calls.append(options) or Refusing(options)
    assert "safety checker" in larger(table)["error"][0].as_py()
    assert calls[0]["prompt"] == ["owl, 3D render"] and calls[0]["negative_prompt"] == ["cup"]
    assert (calls[0]["num_inference_steps"], calls[0]["guidance_scale"]) == (2, 3.0)
    prints = [stage(model, **options).fingerprint({}) for options in ({}, {"size": 24}, {"seed": 1}, {"steps": 3})]
    assert len(set(prints)) == 4 and stage(model, device="cuda").fingerprint({}) == prints[0]


class Refusing:
    def __init__(self, options):
        self.images = [Image.new("RGB", (8, 8))] * len(options["prompt"])
        self.nsfw_content_detected = [True] * len(options["prompt"])


def test_what_is_not_loaded(model, tmp_path):
    def damaged(name):
        return shutil.copytree(model, tmp_path / name)

    def index(folder, **changes):
        file = folder / "model_index.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    pickled = damaged("pickled")
    (pickled / "unet" / "diffusion_pytorch_model.safetensors").rename(pickled / "unet" / "diffusion_pytorch_model.bin")
    foreign = damaged("foreign")
    index(foreign, unet=["my_unet", "MyUNet"])
    video = damaged("video")
    index(video, _class_name="StableVideoDiffusionPipeline")
    for folder, sentence in (
        (pickled, "holds only pickled weights"),
        (foreign, "needs my_unet.MyUNet, which is neither of diffusers nor of transformers"),
        (video, "is no text-to-image pipeline that can be loaded"),
        (tmp_path, "holds no model_index.json"),
    ):
        with pytest.raises(CheckpointError, match=sentence) as caught:
            stage(folder).load()
        assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="There is no folder '/gone'"):
        stage("/gone")
    with pytest.raises(UsageError, match=r"must have \{prompt\} once"):
        TextToImage(str(model), "a picture")
    with pytest.raises(UsageError, match="`steps` must be at least 1, but got 0"):
        stage(model, steps=0)
