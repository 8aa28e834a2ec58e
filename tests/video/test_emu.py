from __future__ import annotations

import logging
import shutil

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel, UNet3DConditionModel

from tests.video.diffusers_folders import IMAGE_UNET, stirred, write_model
from vfusion3d.errors import CheckpointError
from vfusion3d.video import create_backbone
from vfusion3d.video.emu import _TINY
from vfusion3d.video.inflation import unet_from_image


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models") / "image", "image")


@torch.no_grad()
def test_starts_as_the_image_model_on_every_frame(image):
    """Whatever the picture is: its channels have no weight yet."""
    backbone = create_backbone("emu", str(image), frames=3)
    unet = UNet2DConditionModel.from_pretrained(image / "unet")
    inputs, times = torch.randn(2, 3, 4, 8, 8), torch.tensor([10, 900])
    conditioning = backbone.condition(torch.rand(2, 3, 16, 16), ["a chair", "a frog"])
    raw = backbone(inputs, times, conditioning)
    for frame in range(3):
        alone = unet(inputs[:, frame], times, conditioning.text).sample
        torch.testing.assert_close(raw[:, frame], alone, rtol=0, atol=1e-5)
    assert raw.std() > 0.1


def test_what_is_trained_of_an_image_model(image):
    """All that is new: the temporal layers, and the layer that reads the picture."""
    backbone = create_backbone("emu", str(image), frames=3)
    new = set(backbone.temporal_parameters())
    weights = UNet2DConditionModel.from_pretrained(image / "unet").state_dict()
    assert backbone.fresh == {"conv_in.weight", "conv_in.bias"} and backbone.fresh <= new
    for name, weight in backbone.denoiser.state_dict().items():
        assert name in new or torch.equal(weight, weights[name]), name
    conv_in = backbone.denoiser.conv_in.weight
    assert torch.equal(conv_in[:, :4], weights["conv_in.weight"]) and conv_in[:, 4:].eq(0).all()


def test_a_text_to_video_model_keeps_its_time(tmp_path, caplog):
    """As the model was, but for a picture that it does not see yet; the licence is another."""
    folder = write_model(tmp_path / "modelscope", "modelscope")
    DDIMScheduler(prediction_type="epsilon").save_pretrained(folder / "scheduler")
    with caplog.at_level(logging.WARNING, "vfusion3d"):
        backbone = create_backbone("emu", str(folder), frames=3)
    assert "CC BY-NC" in backbone.licence and "trained to predict epsilon" in caplog.text
    inputs, times = torch.randn(1, 3, 4, 8, 8), torch.tensor([500])
    with torch.no_grad():
        conditioning = backbone.condition(torch.rand(1, 3, 16, 16), ["a chair"])
        unet = UNet3DConditionModel.from_pretrained(folder / "unet")
        expected = unet(inputs.transpose(1, 2), times, conditioning.text).sample.transpose(1, 2)
        torch.testing.assert_close(backbone(inputs, times, conditioning), expected, rtol=0, atol=1e-5)
    other = inputs.flip(1)  # frames look at each other
    with torch.no_grad():
        assert (backbone(other, times, conditioning).flip(1) - expected).abs().max() > 1e-3


def test_the_tiny_model_is_the_one_that_was_counted():
    unet = UNet3DConditionModel(**_TINY, in_channels=9, out_channels=4)
    assert sum(weight.numel() for weight in unet.parameters()) == 403_348


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [({"attention_head_dim": 4}, r"attention heads of several sizes \(4, 8\)"),
     ({"down_block_types": ("AttnDownBlock2D", "DownBlock2D")}, "has blocks of the kind 'AttnDownBlock2D'"),
     ({"use_linear_projection": False}, r"has other weights \(for example .*proj_in.weight\)"),
     ({"addition_embed_type": "text", "addition_embed_type_num_heads": 2, "encoder_hid_dim": 32}, "has other weights")],
)  # fmt: skip
def test_image_models_unlike_stable_diffusion_2(changes, sentence):
    with pytest.raises(CheckpointError, match=f"The image U-Net .*{sentence}"):
        unet_from_image(UNet2DConditionModel(**{**IMAGE_UNET, **changes}))


def test_an_inpainting_model_is_refused(image, tmp_path):
    copy = shutil.copytree(image, tmp_path / "inpainting", ignore=shutil.ignore_patterns("unet"))
    stirred(UNet2DConditionModel(**IMAGE_UNET, in_channels=9)).save_pretrained(copy / "unet")
    with pytest.raises(CheckpointError, match="has 9 input channels"):
        create_backbone("emu", str(copy))
