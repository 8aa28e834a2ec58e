from __future__ import annotations

import math

import pytest
import torch

from tests.metrics.noise_ball import ball_views
from vfusion3d.cameras import orbit
from vfusion3d.metrics import OrbitMetrics, loop_closure, orbit_figures, psnr


class Distance:
    """Stands for a perceptual distance: mean absolute difference."""

    def __init__(self, is_lpips: bool) -> None:
        self.is_lpips = is_lpips

    def __call__(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (prediction - target).abs().mean()


def test_psnr_is_per_frame_and_leaves_the_given_one_out():
    target = torch.rand(2, 4, 3, 8, 8)
    frames = (target + 0.2 * torch.rand(2, 4, 1, 1, 1) * torch.randn_like(target)).clamp(0, 1)
    metrics = OrbitMetrics()
    metrics.update(frames[:1], target[:1], torch.tensor([5]))
    metrics.update(frames[1:], target[1:], torch.tensor([3]))
    metrics.update(frames[:1], target[:1], torch.tensor([5]))  # another process's share
    values = metrics.compute()
    per_frame = psnr(frames, target)
    assert float(values["psnr"]) == pytest.approx(float(per_frame[:, 1:].mean()), rel=1e-5)
    assert float(values["first_frame_psnr"]) == pytest.approx(float(per_frame[:, 0].mean()), rel=1e-5)
    assert abs(float(per_frame.mean()) - float(values["psnr"])) > 1e-2


def test_lpips_is_only_called_so_with_a_trained_network():
    target, frames = torch.rand(2, 3, 3, 8, 8), torch.rand(2, 3, 3, 8, 8)
    assert orbit_figures(frames, target)["lpips"].isnan().all()
    assert orbit_figures(frames, target, lpips=Distance(False))["lpips"].isnan().all()
    distance = orbit_figures(frames, target, lpips=Distance(True))["lpips"]
    assert distance == pytest.approx((frames - target)[:, 1:].abs().mean((1, 2, 3, 4)))


def test_a_loop_closes_or_it_does_not():
    angles = torch.arange(8) * math.pi / 4
    circle = torch.stack([angles.cos(), angles.sin()], -1)[:, :, None, None]
    assert float(loop_closure(circle)) == pytest.approx(1, abs=1e-5)
    # Half a circle: from one end back to the other is the diameter, a step the chord of an eighth of its angle.
    half = torch.stack([(angles / 2).cos(), (angles / 2).sin()], -1)[:, :, None, None]
    expected = math.sin(7 * math.pi / 16) / math.sin(math.pi / 16)
    assert float(loop_closure(half)) == pytest.approx(expected, rel=1e-4)
    assert loop_closure(torch.ones(8, 3, 4, 4)).isnan()


def test_true_views_do_not_deform_and_others_do():
    cameras = orbit(views=8, elevation=0.3)
    true = ball_views(cameras, 32)
    smaller = true.clone()
    smaller[3] = ball_views(cameras[3:4], 32, radius=0.6)[0]
    figures = orbit_figures(
        torch.stack([true, smaller]), true.expand(2, -1, -1, -1, -1), cameras.unsqueeze(0).expand(2, 8)
    )
    assert float(figures["deformation"][0]) == pytest.approx(0, abs=1e-6) and float(figures["deformation"][1]) > 0.02
    assert orbit_figures(true[None], true[None])["deformation"].isnan().all()
