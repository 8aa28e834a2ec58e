from __future__ import annotations

import pytest
import torch

from vfusion3d import ReconstructorConfig, TriplaneReconstructor, orbit
from vfusion3d.metrics import psnr
from vfusion3d.rendering import OccupancyGrid


class Ball:
    """A soft ball that counts how often it is asked."""

    def __init__(self) -> None:
        self.evaluations = 0

    def density(self, points):
        self.evaluations += len(points)
        return 40 * torch.sigmoid(60 * (0.4 - points.norm(dim=-1)))

    def density_and_colour(self, points):
        return self.density(points), points.abs().clamp(0, 1)


def test_the_grid_covers_all_density():
    ball = Ball()
    grid = OccupancyGrid(ball, resolution=32)
    points = torch.rand(20000, 3) * 2 - 1
    dense = ball.density(points) > 0.02
    assert grid.occupied(points)[dense].all()
    assert 0.03 < float(grid.occupied(points).float().mean()) < 0.3
    torch.testing.assert_close(grid.density(points)[dense], ball.density(points)[dense])
    assert (grid.density(points)[~grid.occupied(points)] == 0).all()


def test_the_grid_is_where_the_field_is():
    class Elsewhere:
        def density(self, points):
            assert points.is_meta
            return points[:, 0]

    assert OccupancyGrid(Elsewhere(), resolution=4, device="meta").cells.is_meta


def test_rays_that_miss_are_skipped_and_pictures_agree():
    from vfusion3d.rendering import render_rays

    ball = Ball()
    grid = OccupancyGrid(ball, resolution=32)
    origins, directions = orbit(1).rays(32, 32)
    origins, directions = origins.reshape(-1, 3), directions.reshape(-1, 3)
    with torch.no_grad():
        ball.evaluations = 0
        exact = render_rays(ball, origins, directions, 32, 16)
        all_of_it, ball.evaluations = ball.evaluations, 0
        fast = render_rays(grid, origins, directions, 32, 16, cull=grid.rays_that_meet)
    assert ball.evaluations < 0.2 * all_of_it
    assert float(psnr(fast.rgb.T[:, :, None], exact.rgb.T[:, :, None])) > 60


def test_triplanes_skip_empty_space():
    # A steep slope leaves a ball in empty space, as in a trained model.
    model = TriplaneReconstructor(ReconstructorConfig.preset("tiny", density_sphere_slope=80.0)).eval()
    with torch.no_grad():
        triplanes = model(torch.rand(1, 4, 32, 32), orbit(1))
        views = orbit(2).unsqueeze(0)
        exact, fast = triplanes.render(views, 16, 16), triplanes.render(views, 16, 16, skip_empty=True)
    assert 0.05 < float(exact.opacity.mean()) < 0.9
    assert float(psnr(fast.rgb, exact.rgb).min()) > 60
    with pytest.raises(RuntimeError, match="without gradients only"):
        triplanes.render(views, 4, 4, skip_empty=True)


def test_what_only_the_texels_show_is_found():
    """Features that alternate from texel to texel vanish half way between them, where a lattice may happen to look."""

    class Texels:
        def density(self, points):
            return 5 * torch.sin(points * 8 * torch.pi).abs().prod(-1)  # zero at every multiple of an eighth

    assert OccupancyGrid(Texels(), resolution=16).share == 1


def test_wrong_resolution():
    with pytest.raises(ValueError, match="`resolution` must be a multiple of 4"):
        OccupancyGrid(Ball(), resolution=30)
