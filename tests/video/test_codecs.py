from __future__ import annotations

import pytest
import torch

from tests.video.diffusers_folders import image_vae, video_vae
from vfusion3d.errors import UsageError
from vfusion3d.video import CosineCodec, KLCodec, PixelCodec, TemporalKLCodec


@torch.no_grad()
def test_latents_of_an_autoencoder():
    codec, video = KLCodec(image_vae()), torch.rand(2, 3, 3, 8, 8)
    latents = codec.encode(video, chunk=4)
    assert (codec.channels, codec.factor, codec.scale) == (4, 2, 0.18215) and latents.shape == (2, 3, 4, 4, 4)
    mode = codec.vae.encode(video[1] * 2 - 1).latent_dist.mode()
    torch.testing.assert_close(latents[1], mode * 0.18215, rtol=1e-4, atol=1e-5)
    decoded = codec.decode(latents, chunk=4)
    expected = (codec.vae.decode(mode).sample / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(decoded[1], expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_frames_of_one_video_only_are_decoded_together():
    codec, latents = TemporalKLCodec(video_vae()), torch.randn(2, 3, 4, 4, 4)
    both = codec.decode(latents, chunk=3)
    assert both.shape == (2, 3, 3, 8, 8)
    torch.testing.assert_close(codec.decode(latents[1:], chunk=3)[0], both[1], rtol=1e-4, atol=1e-5)
    other = latents.clone()
    other[0, 0] += 1  # a frame changes its neighbours, and no other video
    changed = (codec.decode(other, chunk=3) - both).abs().amax((2, 3, 4))
    assert changed[0, 1] > 1e-4 and changed[1].max() < 1e-5
    assert torch.equal(codec.decode(other, chunk=1)[0, 1], codec.decode(latents, chunk=1)[0, 1])


def test_an_autoencoder_stays_as_it_is():
    codec = KLCodec(image_vae())
    codec.train()
    assert not codec.training and not codec.vae.training
    assert not any(weight.requires_grad for weight in codec.parameters())
    half = codec.bfloat16()
    assert half.decode(half.encode(torch.rand(1, 1, 3, 8, 8))).shape == (1, 1, 3, 8, 8)


def test_pixels_with_channels_to_spare():
    codec, video = PixelCodec(1, channels=4), torch.rand(1, 2, 3, 4, 4)
    latents = codec.encode(video)
    assert latents.shape == (1, 2, 4, 4, 4) and latents[:, :, 3].eq(0).all()
    torch.testing.assert_close(codec.decode(latents), video)
    with pytest.raises(UsageError, match="`channels` must be at least 12, but got 4"):
        PixelCodec(2, channels=4)


def test_low_frequencies_of_blocks():
    codec, video = CosineCodec(), torch.rand(1, 2, 3, 8, 12)
    latents = codec.encode(video)
    assert latents.shape == (1, 2, 16, 2, 3)
    torch.testing.assert_close(codec.encode(codec.decode_frames(latents[0])[None]), latents, rtol=1e-4, atol=1e-5)
    grey = codec.encode(torch.full((1, 1, 3, 4, 4), 0.25)).flatten()
    torch.testing.assert_close(grey, torch.nn.functional.pad(torch.tensor([-6.0]), (0, 15)))
    smooth = torch.linspace(0, 1, 12).expand(1, 1, 3, 8, 12)
    assert (codec.decode(codec.encode(smooth)) - smooth).abs().max() < 0.01
    assert (codec.decode(latents) - video).abs().max() > 0.2  # noise has high frequencies
