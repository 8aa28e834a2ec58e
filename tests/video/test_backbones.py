"""What every backbone does, whatever network is behind it."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import cache

import pytest
import torch

from tests.video.diffusers_folders import stirred
from vfusion3d.errors import UsageError
from vfusion3d.video import VideoBackbone, create_backbone

NAMES = ["emu", "i2vgen", "svd", "wan"]
FRAMES, SIDE = 4, 16


@cache
def tiny(name: str) -> VideoBackbone:
    torch.manual_seed(1)
    backbone = create_backbone(name, "tiny", frames=FRAMES)
    stirred(backbone.denoiser)
    return backbone


def text_for(backbone, *captions):
    return list(captions) if backbone.reads_text else None


def denoise(backbone, conditioning):
    """Of the same noise, for each item."""
    generator = torch.Generator().manual_seed(2)
    count, channels = conditioning.image.shape[:2]
    noise = torch.randn(1, FRAMES, channels, *conditioning.image.shape[2:], generator=generator)
    levels = backbone.process.levels(torch.full((count,), 0.6))
    clean = torch.zeros_like(noise).expand(count, -1, -1, -1, -1)
    pair = backbone.process.pair(clean, noise.expand_as(clean), levels)
    return backbone(pair.inputs, pair.timesteps, conditioning)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_latents_and_back(name):
    backbone = tiny(name)
    video = torch.rand(2, FRAMES, 3, SIDE, SIDE)
    latents = backbone.encode(video)
    side = SIDE // backbone.codec.factor
    assert latents.shape == (2, FRAMES, backbone.codec.channels, side, side)
    torch.testing.assert_close(backbone.encode(video, chunk=3), latents)
    torch.testing.assert_close(backbone.decode(latents, chunk=3), video)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_an_item_is_the_same_alone_and_in_a_batch(name):
    backbone = tiny(name)
    conditioning = backbone.condition(torch.rand(2, 3, SIDE, SIDE), text_for(backbone, "a chair", "a green frog"))
    both = denoise(backbone, conditioning)
    assert both.shape == (2, FRAMES, backbone.codec.channels, *conditioning.image.shape[2:])
    for item in range(2):
        alone = denoise(backbone, conditioning[item : item + 1])
        torch.testing.assert_close(alone, both[item : item + 1], rtol=1e-4, atol=1e-5)
    assert (both[0] - both[1]).abs().max() > 1e-3


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_what_is_dropped_does_not_matter(name):
    """Items 0 and 1 differ in the picture, 0 and 2 in the text."""
    backbone = tiny(name)
    pictures = torch.rand(2, 3, SIDE, SIDE)[[0, 1, 0]]
    conditioning = backbone.condition(pictures, text_for(backbone, "a chair", "a chair", "a green frog"))
    no, yes = torch.zeros(3, dtype=torch.bool), torch.ones(3, dtype=torch.bool)

    def differences(image, text):
        raw = denoise(backbone, backbone.dropped(conditioning, image, text))
        return (raw[0] - raw[1]).abs().max().item(), (raw[0] - raw[2]).abs().max().item()

    picture, text = differences(no, no)
    assert picture > 1e-3 and (text > 1e-3) == backbone.reads_text
    picture, text = differences(yes, no)
    assert picture < 1e-6 and (text > 1e-3) == backbone.reads_text
    assert differences(yes, yes) == pytest.approx((0, 0), abs=1e-6)
    if backbone.reads_text:  # a dropped text is the empty one
        empty = backbone.condition(pictures, ["", None, ""])
        torch.testing.assert_close(
            denoise(backbone, backbone.dropped(conditioning, no, yes)), denoise(backbone, empty), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("name", NAMES)
def test_every_trained_weight_gets_a_gradient(name):
    """DDP waits forever for one that does not."""
    backbone = tiny(name)
    backbone.denoiser.requires_grad_(True)
    denoise(backbone, backbone.condition(torch.rand(1, 3, SIDE, SIDE))).square().mean().backward()
    without = [key for key, weight in backbone.denoiser.named_parameters() if weight.grad is None]
    backbone.denoiser.zero_grad()
    assert not without
    assert not any(weight.grad is not None for weight in backbone.codec.parameters())


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_half_precision(name):
    """Whatever comes in, the denoiser is fed its own type."""
    backbone = tiny(name)
    conditioning = backbone.condition(torch.rand(1, 3, SIDE, SIDE))
    half = denoise(deepcopy(backbone).bfloat16(), conditioning)
    assert half.dtype == torch.bfloat16
    full = denoise(backbone, conditioning)
    assert (half.float() - full).square().mean() < 0.01 * full.square().mean()


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_noise_on_the_picture(name):
    """The latent sees it, embeddings do not."""
    backbone = tiny(name)
    images, noise = torch.rand(2, 3, SIDE, SIDE), torch.randn(2, 3, SIDE, SIDE)
    clean = backbone.condition(images)
    noisy = backbone.condition(images, noise=noise, noise_level=torch.tensor([0.0, 0.5]))
    torch.testing.assert_close(noisy.image[0], clean.image[0])
    added = backbone.codec.encode(images[1:, None] + noise[1:, None] / 4)[:, 0] / (
        backbone.codec.scale if name == "svd" else 1
    )
    torch.testing.assert_close(noisy.image[1:], added)
    if clean.embedding is not None:
        torch.testing.assert_close(noisy.embedding, clean.embedding)
    if noisy.noise_level is not None:  # svd is told
        raw = [denoise(backbone, replace(noisy, noise_level=level)) for level in (torch.zeros(2), torch.ones(2))]
        assert (raw[0] - raw[1]).abs().max() > 1e-3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("shape", "sentence"),
    [((1, 3, 3, 16, 16), "makes 4 frames, but the videos have 3"), ((1, 4, 4, 16, 16), r"must be \[B, F, 3, H, W\]"),
     ((1, 4, 3, 16, 1), "multiples of|smaller than the latent grid"), ((1, 4, 3, 0, 16), "than the latent grid")],
)  # fmt: skip
def test_videos_that_do_not_fit(name, shape, sentence):
    with pytest.raises(UsageError, match=sentence):
        tiny(name).encode(torch.zeros(shape))


@pytest.mark.parametrize("name", NAMES)
def test_pictures_and_text_that_do_not_fit(name):
    backbone = tiny(name)
    with pytest.raises(UsageError, match=r"must be \[B, 3, H, W\]"):
        backbone.condition(torch.zeros(1, 4, SIDE, SIDE))
    small = backbone.smallest - backbone.multiple
    with pytest.raises(UsageError, match="smaller than the latent grid"):
        backbone.condition(torch.zeros(1, 3, small, SIDE))
    sentence = "for each of 1 pictures" if backbone.reads_text else "no text encoder"
    with pytest.raises(UsageError, match=sentence):
        backbone.condition(torch.zeros(1, 3, SIDE, SIDE), ["a chair", "a frog"])


@pytest.mark.parametrize("name", NAMES)
def test_unknown_options_and_presets(name):
    with pytest.raises(UsageError, match=f"{name} has no option 'colour', but frames"):
        create_backbone(name, "tiny", colour="red")
    with pytest.raises(UsageError, match=f"{name} has no preset 'huge', but tiny"):
        type(tiny(name)).from_preset("huge")


@pytest.mark.parametrize(
    ("name", "everything", "temporal"),
    [("svd", 1_524_623_082, 656_076_838), ("i2vgen", 1_420_469_224, 545_323_424), ("emu", 1_411_248_260, 545_323_136)],
)
def test_sizes_of_the_released_models(name, everything, temporal):
    """As VIDEO.md counts them; SVD's paper says 656M."""
    with torch.device("meta"):
        backbone = create_backbone(name, "released")
    assert sum(weight.numel() for weight in backbone.denoiser.parameters()) == everything
    assert sum(weight.numel() for weight in backbone.temporal_parameters().values()) == temporal
