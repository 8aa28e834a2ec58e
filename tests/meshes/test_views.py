from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from vfusion3d.cameras import fit_radius, fov_from_focal
from vfusion3d.errors import UsageError
from vfusion3d.meshes.views import ViewSettings


def test_orbit_draws_its_elevation_per_mesh_and_starts_at_the_front() -> None:
    settings = ViewSettings("orbit")
    elevations = {name: settings.cameras(name).elevations for name in "abcdefgh"}
    for cameras_elevations in elevations.values():
        assert torch.allclose(cameras_elevations, cameras_elevations[:1], atol=1e-5)
        assert 0 <= float(cameras_elevations[0]) <= math.pi / 4
    assert len({round(float(e[0]), 4) for e in elevations.values()}) == 8
    azimuths = settings.cameras("a").azimuths % (2 * math.pi)
    assert torch.allclose(azimuths, torch.arange(16) * (2 * math.pi / 16), atol=1e-5)


def test_benchmark_is_sixteen_views_at_twenty_degrees() -> None:
    cameras = ViewSettings("benchmark").cameras("anything")
    assert cameras.shape == (16,)
    assert torch.allclose(cameras.elevations, torch.full((16,), math.radians(20.0)), atol=1e-5)
    assert torch.allclose(cameras.centers.norm(dim=-1), torch.tensor(fit_radius(40.0)), atol=1e-4)


def test_random_draws_its_field_of_view_unless_given() -> None:
    drawn = [fov_from_focal(float(ViewSettings("random", 3).cameras(n).intrinsics[0, 0])) for n in "abcdefgh"]
    assert all(30 <= fov <= 60 for fov in drawn) and len(set(drawn)) == 8
    given = ViewSettings("random", 3, fov=33.0, elevation=10.0).cameras("a")
    assert fov_from_focal(float(given.intrinsics[0, 0])) == pytest.approx(33.0, abs=1e-3)
    assert torch.allclose(given.elevations, torch.full((3,), math.radians(10.0)), atol=1e-5)


@pytest.mark.parametrize("layout", ["orbit", "random"])
def test_cameras_are_a_function_of_seed_and_name(layout: Any) -> None:
    first = ViewSettings(layout, offset_noise=0.0).cameras("a").vectors
    assert torch.equal(first, ViewSettings(layout).cameras("a").vectors)
    assert not torch.allclose(first, ViewSettings(layout).cameras("b").vectors)
    assert not torch.allclose(first, ViewSettings(layout, seed=1).cameras("a").vectors)


def test_offset_noise_moves_the_cameras_within_its_bound() -> None:
    still = ViewSettings("benchmark").cameras("a")
    moved = ViewSettings("benchmark", offset_noise=0.05).cameras("a")
    offset = (moved.centers - still.centers).abs()
    assert 0.03 < float(offset.max()) <= 0.05
    assert torch.equal(moved.poses[..., :3], still.poses[..., :3])


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("layout", {"layout": "spiral"}),
        ("views", {"views": 0}),
        ("resolution", {"resolution": 4}),
        ("elevation", {"elevation": 91.0}),
        ("fov", {"fov": 0.0}),
        ("fov", {"fov": math.nan}),
        ("offset_noise", {"offset_noise": -0.1}),
        ("offset_noise", {"layout": "random", "offset_noise": 0.1}),
    ],
)
def test_arguments_are_checked(name: str, changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"`{name}`"):
        ViewSettings(**changes)
