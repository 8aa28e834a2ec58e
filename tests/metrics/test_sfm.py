from __future__ import annotations

import importlib.util

import pytest
import torch

from tests.metrics.noise_ball import ball_views
from vfusion3d.cameras import orbit
from vfusion3d.errors import MissingExtraError
from vfusion3d.metrics import SfmConsistency, find_cameras, rotation_errors, sfm_figures

pycolmap = pytest.mark.skipif(importlib.util.find_spec("pycolmap") is None, reason="needs pycolmap")


def turned(degrees: float) -> torch.Tensor:
    angle = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    c, s = angle.cos(), angle.sin()
    return torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]], dtype=torch.float64)


def test_rotations_are_compared_up_to_a_turn_of_the_world():
    ideal = orbit(views=16, elevation=0.3).world_to_camera[:, :3, :3].double()
    world = ideal[5]
    found = ideal @ world
    found[3] = turned(4.0) @ found[3]
    found[10] = turned(40.0) @ found[10]
    errors = rotation_errors(found, ideal)
    # The turn is averaged over those that agree: 4 degrees of one in 15 moves it by about 0.27.
    assert float(errors[3]) == pytest.approx(4, abs=0.4) and float(errors[10]) == pytest.approx(40, abs=0.4)
    others = [k for k in range(16) if k not in (3, 10)]
    assert float(errors[others].max()) < 0.4

    shuffled = ideal[torch.randperm(16, generator=torch.Generator().manual_seed(0))] @ world
    assert int((rotation_errors(shuffled, ideal) <= 10).sum()) < 8
    backwards = ideal.flip(0) @ world  # an orbit in the wrong direction
    assert int((rotation_errors(backwards, ideal) <= 10).sum()) < 8
    assert rotation_errors(ideal[:0], ideal[:0]).shape == (0,)


@pycolmap
def test_an_orbit_is_found_again():
    cameras = orbit(views=24, elevation=0.3)[:4]
    frames = ball_views(cameras, 128)
    found = find_cameras(frames, cameras.intrinsics)
    assert found.frames.tolist() == [0, 1, 2, 3] and found.points > 20
    opengl = cameras.world_to_camera[:, :3, :3].double()
    ideal = opengl * torch.tensor([1.0, -1.0, -1.0])[:, None]
    assert float(rotation_errors(found.rotations, ideal).max()) < 2
    again = find_cameras(frames, cameras.intrinsics)
    assert torch.equal(found.rotations, again.rotations)


@pycolmap
def test_what_cannot_be_found_counts_as_nothing():
    cameras = orbit(views=4)
    metric = SfmConsistency()
    metric.update(torch.ones(1, 4, 3, 64, 64), torch.tensor([0]), cameras.unsqueeze(0))
    assert {name: float(value) for name, value in metric.compute().items()} == dict.fromkeys(metric.NAMES, 0.0)
    with pytest.warns(UserWarning, match=r"took more than 0.01 seconds"):
        late = sfm_figures(torch.ones(4, 3, 64, 64), cameras, timeout=0.01)
    assert late["sfm_registered"] == 0


def test_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vfusion3d\[sfm\]'"):
        find_cameras(torch.ones(2, 3, 8, 8), torch.ones(2, 4))
