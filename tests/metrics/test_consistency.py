from __future__ import annotations

import pytest
import torch

from tests.metrics.noise_ball import ball_views
from vfusion3d.cameras import Cameras, orbit
from vfusion3d.metrics import MatchConsistency, epipolar_errors, match_score, neighbour_errors

WIDTH, HEIGHT = 200, 100


def pair(first: Cameras, second: Cameras) -> Cameras:
    return Cameras.stack([first, second])


def test_true_projections_are_on_their_epipolar_lines():
    cameras = orbit(views=16, elevation=0.5, offset_noise=0.05, generator=torch.Generator().manual_seed(0))
    cameras = Cameras(cameras.poses.double(), cameras.intrinsics.double() * torch.rand(16, 4) + 0.5)
    points = torch.rand(40, 3, dtype=torch.float64) - 0.5
    uv, _ = cameras.project(points.expand(16, -1, 3))
    pixels = uv * torch.tensor([WIDTH, HEIGHT])
    right = epipolar_errors(pixels[2], pixels[3], cameras[[2, 3]], HEIGHT, WIDTH)
    wrong = epipolar_errors(pixels[2], pixels[3], cameras[[2, 9]], HEIGHT, WIDTH)
    assert float(right.max()) < 1e-8 and float(wrong.median()) > 2


def test_the_error_is_a_distance_in_pixels():
    # Two parallel cameras side by side: epipolar lines are rows.
    pose = torch.eye(3, 4)
    moved = pose + torch.tensor([[0, 0, 0, 1.0], [0] * 4, [0] * 4])
    lens = torch.tensor([1.0, 2.0, 0.5, 0.5])  # square pixels of a 2:1 picture
    cameras = pair(Cameras(pose, lens), Cameras(moved, lens))
    first, second = torch.tensor([[50.0, 40.0], [80.0, 10.0]]), torch.tensor([[20.0, 43.0], [10.0, 10.0]])
    assert epipolar_errors(first, second, cameras, HEIGHT, WIDTH).tolist() == pytest.approx([3, 0], abs=1e-9)


def test_the_score_knows_the_true_cameras():
    orbiting = orbit(views=18, elevation=0.6)
    frames = ball_views(orbiting[:2], 120)
    assert float(neighbour_errors(frames, orbiting[:2]).max()) < 1
    assert float(match_score(frames, orbiting[:2])) == 1
    wrong = neighbour_errors(frames, orbiting[[0, 4]])  # as if it had turned four times as far
    assert not bool((wrong < 2).any())


def test_without_features_nothing_agrees():
    cameras, frames = orbit(views=2), torch.ones(1, 2, 3, 48, 48)
    assert neighbour_errors(frames[0], cameras).isnan().all()
    metric = MatchConsistency()
    metric.update(frames, torch.tensor([4]), cameras.unsqueeze(0))
    assert float(metric.compute()["match_score"]) == 0
