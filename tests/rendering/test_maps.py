from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vfusion3d.cameras import look_at, orbit, pinhole
from vfusion3d.rendering.maps import render_maps
from vfusion3d.rendering.volume import render_rays

RADIUS = 0.6


class RedBall:
    """A sharp red ball around the origin."""

    def density(self, points: torch.Tensor) -> torch.Tensor:
        return 40000 * (RADIUS - points.norm(dim=-1)).clamp_min(0)

    def density_and_colour(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.density(points), torch.tensor([0.8, 0.2, 0.1]).expand_as(points)

    def render(self, cameras, height, width, *, skip_empty):
        origins, directions = cameras.rays(height, width)
        rays = render_rays(self, origins.reshape(-1, 3), directions.reshape(-1, 3), 96, 96)
        rgb = (rays.rgb + 1 - rays.opacity[:, None]).view(1, 1, height, width, 3).movedim(-1, 2)
        return SimpleNamespace(
            rgb=rgb,
            opacity=rays.opacity.view(1, 1, 1, height, width),
            depth=rays.depth.view(1, 1, 1, height, width),
        )


def test_a_ball_has_the_analytic_depth_and_normals():
    cameras = orbit(3, elevation=0.4, radius=2.5)
    told = []
    maps = render_maps(RedBall(), cameras, 32, progress=lambda *numbers: told.append(numbers))
    assert maps.rgba.shape == (3, 32, 32, 4) and maps.depths.shape == (3, 32, 32) and maps.normals.shape[-1] == 3
    assert told == [(1, 3), (2, 3), (3, 3)]
    origins, directions = (rays.numpy() for rays in cameras.rays(32, 32))
    along = (origins * directions).sum(-1)
    under = along**2 - (origins**2).sum(-1) + RADIUS**2
    inside = under > 0.03  # away from the rim
    distance = -along - np.sqrt(under.clip(0))
    forward = -cameras.poses[:, None, None, :, 2].numpy()
    depth = distance * (directions * forward).sum(-1)
    assert np.abs(maps.depths - depth)[inside].max() < 0.02
    places = origins + directions * distance[..., None]
    assert ((maps.normals * places / RADIUS).sum(-1)[inside]).min() > 0.98
    outside = under < -0.03
    assert (maps.depths[outside] == 0).all() and (maps.normals[outside] == 0).all()
    assert (maps.rgba[outside][:, 3] == 0).all()
    assert np.abs(maps.rgba[inside].astype(int) - [204, 51, 26, 255]).max() <= 2


def test_depth_is_along_the_viewing_axis():
    """A camera that looks past the ball sees it as far away as the ball is along the axis, not along the ray."""
    camera = look_at(torch.tensor([[3.0, 0.0, 0.0]]), pinhole(60.0), torch.tensor([[0.0, 1.0, 0.0]]))
    maps = render_maps(RedBall(), camera, 64)
    nearest = maps.depths[maps.depths > 0].min()
    axis = -camera.poses[0, :, 2].numpy()
    middle = float(-camera.centers[0].numpy() @ axis)
    assert nearest == pytest.approx(middle - RADIUS, abs=0.03)
