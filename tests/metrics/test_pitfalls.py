"""How numbers become incomparable: one test for each way that concerns a metric, which fails if it comes back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import trimesh
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure
from torchmetrics.image import PeakSignalNoiseRatio
from transformers import CLIPImageProcessor

from tests.engine.tiny_language import write_clip
from vfusion3d.alpha import over_white
from vfusion3d.data.resize import area_resize
from vfusion3d.metrics import (
    ClipNetwork,
    LpipsNetwork,
    NovelViewMetrics,
    Similarity,
    clip_similarity,
    depth_error,
    foreground_psnr,
    lpips_distance,
    psnr,
    ssim,
    surface_figures,
)


@pytest.mark.parametrize(("coverage", "whole"), [(100, 15), (50, 18), (25, 21), (10, 25)])
def test_2_white_surroundings_flatter_psnr_but_not_that_of_the_foreground(coverage, whole):
    target, region = torch.ones(1, 3, 10, 40), torch.zeros(1, 1, 10, 40, dtype=torch.bool)
    region.flatten()[: 4 * coverage] = True
    prediction = target - region * 10 ** (-15 / 20)
    assert float(psnr(prediction, target)) == pytest.approx(whole, abs=0.1)
    assert float(foreground_psnr(prediction, target, region)) == pytest.approx(15, abs=1e-3)


def test_3_psnr_is_a_mean_over_pictures_not_of_the_pooled_error():
    target, mask = torch.full((4, 2, 3, 16, 16), 0.5), torch.ones(4, 2, 1, 16, 16)
    prediction = target + torch.logspace(-3, -0.5, 8).view(4, 2, 1, 1, 1)  # 60 to 10 dB
    metric, pooled = NovelViewMetrics(), PeakSignalNoiseRatio(data_range=1.0)
    for rows in (slice(0, 1), slice(1, 4)):  # batches of different size count by their objects
        metric.update(prediction[rows], mask[rows], target[rows], mask[rows], torch.arange(4)[rows])
        pooled.update(prediction[rows], target[rows])
    assert float(metric.compute()["psnr"]) == pytest.approx(35, abs=1e-3)
    assert float(pooled.compute()) < 19  # torchmetrics' default


def test_4_lpips_depends_on_net_range_and_size():
    first = F.interpolate(torch.rand(2, 3, 8, 8), (64, 64), mode="bilinear")
    second = (first + 0.1 * torch.randn_like(first)).clamp(0, 1)
    network, other = LpipsNetwork("alex", "random"), LpipsNetwork("vgg", "random")
    ours = lpips_distance(first, second, network)
    from_signed = network.network(2 * first - 1, 2 * second - 1).flatten()  # what the package's network reads
    torch.testing.assert_close(ours, from_signed.detach())
    unscaled = network.network(first, second).flatten().detach()
    halves = (F.interpolate(picture, (32, 32), mode="area") for picture in (first, second))
    for different in (unscaled, lpips_distance(*halves, network), lpips_distance(first, second, other)):
        assert ((different - ours).abs() > 0.1 * ours).all()


def test_5_ssim_of_a_picture_does_not_depend_on_its_batch():
    dull = 0.4 + 0.2 * F.interpolate(torch.rand(1, 3, 6, 6), (32, 32), mode="bilinear")
    pair = torch.cat([dull, torch.rand(1, 3, 32, 32)]), torch.cat([dull + 0.02 * torch.randn_like(dull)] * 2)
    alone, beside = (float(ssim(pair[0][:k], pair[1][:k])[0]) for k in (1, 2))
    expected = structural_similarity(
        *(part[0].numpy() for part in pair),
        channel_axis=0,
        data_range=1,
        gaussian_weights=True,
        use_sample_covariance=False,
    )
    assert alone == pytest.approx(expected, abs=1e-4) and beside == pytest.approx(alone, abs=1e-6)
    unset = [float(structural_similarity_index_measure(pair[0][:k], pair[1][:k], reduction="none")[0]) for k in (1, 2)]
    assert abs(unset[0] - unset[1]) > 0.02  # without a data range


def test_6_resizing_is_antialiased_and_premultiplied(tmp_path):
    network = ClipNetwork(str(write_clip(tmp_path)))
    stripes = (torch.arange(64) % 4 == 0).float().expand(1, 3, 64, 64)  # which four taps without antialiasing miss
    grey = network.preprocess(torch.full((1, 3, 64, 64), 0.25))
    inner = (..., slice(1, -1))
    torch.testing.assert_close(network.preprocess(stripes)[inner], grey[inner], atol=0.1, rtol=0)
    # Black, beside red that is transparent: nothing red may show.
    alpha = (torch.arange(64) > 34).float().expand(1, 64, 64)
    straight = torch.cat([(alpha == 0).float(), torch.zeros(2, 64, 64), alpha])
    premultiplied = torch.cat([straight[:3] * alpha, alpha])
    right = over_white(area_resize(premultiplied, 10, 10))
    torch.testing.assert_close(right, area_resize(over_white(premultiplied), 10, 10))
    small = area_resize(straight, 10, 10)
    late = over_white(torch.cat([small[:3] * small[3:], small[3:]]))
    assert (right[0] - right[1]).abs().max() < 1e-6 and (late[0] - late[1]).max() > 0.1


def test_7_raw_scaled_and_similarity_aligned_are_different_numbers():
    ball = trimesh.creation.icosphere(2, 0.3).apply_translation((0.3, 0.2, 0.4))
    thing = trimesh.util.concatenate([trimesh.creation.box((1, 0.6, 0.3)), ball])
    quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    moved = Similarity(0.6, quarter, np.array([1.0, 0, 0])).mesh(thing)
    raw, scaled, aligned = (
        surface_figures(moved, thing, mode, samples=2000)["chamfer"] for mode in ("none", "scale", "similarity")
    )
    assert raw > 1.3 * scaled and scaled > 10 * aligned
    depth, mask = torch.rand(1, 8, 8) + 1, torch.ones(1, 8, 8)
    free, fixed = (depth_error(0.6 * depth, depth, mask, mask, fit)["depth_relative"] for fit in (True, False))
    assert float(free) < 1e-6 and float(fixed) == pytest.approx(0.4)


def test_9_clip_similarity_has_factor_1_and_rescales_once(tmp_path):
    folder = write_clip(tmp_path)
    network, processor = ClipNetwork(str(folder)), CLIPImageProcessor.from_pretrained(folder)
    pictures = (F.interpolate(torch.rand(2, 3, 5, 5), (40, 40), mode="bilinear") * 255).round()
    torch.testing.assert_close(clip_similarity(pictures / 255, pictures / 255, network), torch.ones(2))

    def embedding(images: torch.Tensor) -> torch.Tensor:
        pixels = processor(images=list(images), return_tensors="pt").pixel_values
        states = network.model.vision_model(pixels).pooler_output
        return F.normalize(network.model.visual_projection(states), dim=-1)

    ours = network.embed_pictures(pictures / 255)
    right = (ours * embedding(pictures.byte())).sum(-1)
    twice = (ours * embedding(pictures / 255)).sum(-1)  # what torchmetrics' CLIPScore gives the processor
    assert (right > 1 - 1e-4).all() and (twice < right - 1e-3).all()
