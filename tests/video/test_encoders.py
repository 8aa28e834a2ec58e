from __future__ import annotations

import pytest
import torch
from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import _resize_with_antialiasing
from transformers import CLIPImageProcessor

from tests.video.diffusers_folders import text_encoder, vision_encoder, write_tokenizer
from vfusion3d.video.encoders import ByteText, ClipImage, ClipText, PooledImage, resize_for_clip
from vfusion3d.video.loading import load_tokenizer


def test_bytes_as_tokens():
    encoder = ByteText(32, length=12)
    tokens = encoder(["a chair", "a chain", "", None, "a chair that is cut off", "Stühle"])
    assert tokens.shape == (6, 12, 32)
    assert torch.equal(tokens[0, :5], tokens[1, :5]) and (tokens[0, 6] - tokens[1, 6]).abs().max() > 0.1
    assert torch.equal(tokens[2], tokens[3]) and torch.equal(tokens[2], encoder.null()[0])
    distances = torch.cdist(encoder.codes, encoder.codes) + torch.eye(256)
    assert distances.min() > 0.01  # no two bytes are the same


def test_texts_of_clip(tmp_path):
    write_tokenizer(tmp_path / "tokenizer")
    encoder = ClipText(text_encoder(), load_tokenizer(tmp_path))
    tokens = encoder(["ab", None, "abcdefghijklmnopqrstuvwxyz"])
    assert tokens.shape == (3, 12, 32) and encoder.width == 32 and not tokens.requires_grad
    ids = torch.tensor([[52, 0, 27, *[53] * 9]])  # start, a, b at a word's end, end
    torch.testing.assert_close(tokens[:1], encoder.model(ids)[0])
    torch.testing.assert_close(tokens[1:2], encoder.null())
    kept = torch.tensor([False, True, True])
    dropped = encoder.drop(tokens, kept)
    assert torch.equal(dropped[0], tokens[0]) and torch.equal(dropped[2], encoder.null()[0])
    encoder.train()
    assert not encoder.model.training


def test_pictures_of_clip():
    """As transformers normalises them, at the size that the model takes."""
    encoder, images = ClipImage(vision_encoder()), torch.rand(2, 3, 32, 32)
    pixels = CLIPImageProcessor(do_resize=False, do_center_crop=False, do_rescale=False)(
        images=images, return_tensors="pt"
    ).pixel_values
    torch.testing.assert_close(encoder(images), encoder.model(pixels).image_embeds, rtol=1e-4, atol=1e-5)
    assert encoder(torch.rand(1, 3, 70, 50)).shape == (1, encoder.width) == (1, 32)


@pytest.mark.parametrize("size", [(96, 64), (20, 31)])
def test_resized_as_stable_video_diffusion_does(size):
    images = torch.rand(2, 3, *size)
    torch.testing.assert_close(
        resize_for_clip(images, 28, "blurred_bicubic"), _resize_with_antialiasing(images, (28, 28)), rtol=0, atol=1e-5
    )


def test_mean_colours():
    images = torch.zeros(1, 3, 12, 12)
    images[:, 0, :4, :4] = 1
    vector = PooledImage(32)(images)
    assert vector.shape == (1, 32) and vector[0, 0] == 1 and vector[0, 1:27].eq(-1).all() and vector[0, 27:].eq(0).all()
