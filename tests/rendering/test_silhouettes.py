import math

import pytest
import torch

from vfusion3d.cameras import orbit
from vfusion3d.rendering.isosurface import EmptySurfaceError
from vfusion3d.rendering.silhouettes import fit_threshold


class Ball:
    """Density rises linearly from the surface of a ball to its centre, up to a limit."""

    def __init__(self, slope: float, radius: float = 0.7, most: float = math.inf) -> None:
        self.slope, self.radius, self.most = slope, radius, most

    def density(self, points: torch.Tensor) -> torch.Tensor:
        return (self.slope * (self.radius - points.norm(dim=-1))).clamp(0, self.most)


def rays() -> tuple[torch.Tensor, torch.Tensor]:
    origins, directions = orbit(6).rays(48, 48)
    return origins.reshape(-1, 3).double(), directions.reshape(-1, 3).double()


@pytest.mark.parametrize("slope", [8.0, 60.0, 1000.0])
def test_the_surface_is_where_rays_are_half_opaque(slope: float) -> None:
    # A ray that passes the centre at b sees a peak of slope (r - b), and the integral of slope (r - sqrt(b^2 + s^2)).
    passing = torch.linspace(0, 0.7, 20001, dtype=torch.float64)
    half = (0.49 - passing**2).sqrt()
    depth = slope * (0.7 * half - passing**2 * torch.asinh(half / passing.clamp_min(1e-9)))
    wanted = slope * (0.7 - float(passing[depth > math.log(2)].max()))
    assert fit_threshold(Ball(slope), *rays(), samples=200) == pytest.approx(wanted, rel=0.05)


def test_a_plateau_is_inside() -> None:
    """A ball of one density and nothing around it: any threshold in between gives the same surface."""
    hard = Ball(1e9, most=50.0)
    assert fit_threshold(hard, *rays()) == 25.0
    thin = Ball(1e9, radius=0.2, most=1.0)
    with pytest.raises(EmptySurfaceError, match=r"nowhere more opaque than a half \(at most 0\.3"):
        fit_threshold(thin, *rays())


def test_rays_that_see_nothing_are_not_evaluated() -> None:
    field, asked = Ball(60.0), []
    everything = fit_threshold(field, *rays())

    class Counting:
        def density(self, points: torch.Tensor) -> torch.Tensor:
            asked.append(len(points))
            return field.density(points)

    def cull(origins, directions, near, far):
        return (origins - (origins * directions).sum(-1, keepdim=True) * directions).norm(dim=-1) < 0.7

    assert fit_threshold(Counting(), *rays(), cull=cull, chunk=10_000) == pytest.approx(everything)
    assert max(asked) <= 10_000 and sum(asked) < 96 * len(rays()[0]) * 0.7


def test_no_ray_meets_the_box() -> None:
    with pytest.raises(EmptySurfaceError, match="at most 0"):
        fit_threshold(Ball(60.0), torch.full((5, 3), 3.0), torch.tensor([[1.0, 0.0, 0.0]]).expand(5, 3))
