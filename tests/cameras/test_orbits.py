import math
from pathlib import Path

import numpy as np
import pytest
import torch

from vfusion3d.cameras import fit_radius, look_at, on_sphere, orbit, pinhole, random_sphere

EXTRAS = Path(__file__).parents[3] / "shared" / "parity" / "extras" / "data.npz"


def test_orbit_golden():
    """Front at +X, counter-clockwise seen from above, upright, looking at the origin."""
    views = orbit(4, radius=2.0)
    expected = torch.tensor([[2.0, 0, 0], [0, 2, 0], [-2, 0, 0], [0, -2, 0]])
    torch.testing.assert_close(views.centers, expected, atol=1e-6, rtol=0)
    front = torch.tensor([[0.0, 0, 1, 2], [1, 0, 0, 0], [0, 1, 0, 0]])
    torch.testing.assert_close(views[0].poses, front)
    uv, depth = views.project(torch.zeros(4, 1, 3))
    torch.testing.assert_close(uv, torch.full((4, 1, 2), 0.5))
    torch.testing.assert_close(depth, torch.full((4, 1), 2.0))
    up, _ = views.project(torch.tensor([0.0, 0.0, 0.5]).expand(4, 1, 3))
    assert (up[..., 1] < 0.5).all()


def test_orbit_options():
    views = orbit(16, elevation=0.3, fov=50.0, start=0.5, direction=-1)
    views.validate()
    torch.testing.assert_close(views.elevations, torch.full((16,), 0.3))
    torch.testing.assert_close(views.azimuths[:2], torch.tensor([0.5, 0.5 - math.pi / 8]))
    torch.testing.assert_close(views.centers.norm(dim=-1), torch.full((16,), fit_radius(50.0)))
    forwards = orbit(16, elevation=0.3, fov=50.0, start=0.5)
    torch.testing.assert_close(views.centers[1:], forwards.centers[1:].flip(0))


def test_orbit_errors():
    cases = {"views": 0, "direction": 2, "radius": -1.0, "fov": 0.0}
    for name, value in cases.items():
        with pytest.raises(ValueError, match=f"`{name}`"):
            orbit(**{name: value})


def test_offset_noise_moves_centres_only():
    generator = torch.Generator().manual_seed(0)
    clean, noisy = orbit(64), orbit(64, offset_noise=0.05, generator=generator)
    offset = noisy.centers - clean.centers
    torch.testing.assert_close(noisy.poses[..., :3], clean.poses[..., :3])
    assert 0.04 < offset.abs().max() <= 0.05 + 1e-6 and offset.mean().abs() < 0.01
    again = orbit(64, offset_noise=0.05, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(again.poses, noisy.poses, atol=0, rtol=0)


@pytest.mark.parametrize("fov", [20.0, 40.0, 90.0])
def test_unit_sphere_fits(fov):
    """At `fit_radius` every ray that touches the unit sphere is inside the image, and just so."""
    distance = fit_radius(fov)
    widest = math.tan(math.asin(1 / distance))  # tangent rays
    edge = math.tan(math.radians(fov) / 2)
    assert 0.85 * edge < widest < edge


def test_look_at_target_and_poles():
    target = torch.tensor([1.0, 1.0, 1.0])
    eyes = torch.tensor([[3.0, 1.0, 1.0], [1.0, 1.0, 4.0], [1.0, 1.0, -4.0]])
    views = look_at(eyes, pinhole(), target)
    views.validate()
    uv, _ = views.project(target.expand(3, 1, 3))
    torch.testing.assert_close(uv, torch.full((3, 1, 2), 0.5))
    torch.testing.assert_close(views[1:].poses[..., 1], torch.tensor([[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
    assert look_at(eyes[0], pinhole(), torch.zeros(5, 3)).shape == (5,)
    with pytest.raises(ValueError, match="`eyes`"):
        look_at(target, pinhole(), target)


def test_look_at_has_gradients_at_the_pole():
    eyes = torch.tensor([0.0, 0.0, 2.0], requires_grad=True)
    look_at(eyes, pinhole()).poses.sum().backward()
    assert torch.isfinite(eyes.grad).all()


def test_on_sphere_broadcasts():
    views = on_sphere(torch.zeros(3, 1), torch.linspace(-1, 1, 4), 2.0, pinhole())
    assert views.shape == (3, 4)
    radii = torch.tensor([1.0, 2.0])
    torch.testing.assert_close(on_sphere(torch.zeros(2), torch.zeros(2), radii, pinhole()).centers[:, 0], radii)


def test_random_sphere():
    views = random_sphere(4000, elevation=(-0.2, 1.0), generator=torch.Generator().manual_seed(0))
    views.validate()
    assert views.elevations.min() >= -0.2001 and views.elevations.max() <= 1.0001
    assert (views.intrinsics == views.intrinsics[0]).all()
    uv, _ = views.project(torch.zeros(4000, 1, 3))
    torch.testing.assert_close(uv, torch.full_like(uv, 0.5), atol=1e-5, rtol=0)
    # Uniform in area: the height is uniform, all azimuths occur.
    height = (torch.sin(views.elevations) - math.sin(-0.2)) / (math.sin(1.0) - math.sin(-0.2))
    assert (torch.histc(height, 4, 0, 1) / 1000 - 1).abs().max() < 0.12
    assert (torch.histc(views.azimuths, 4, -math.pi, math.pi) / 1000 - 1).abs().max() < 0.12
    again = random_sphere(4000, elevation=(-0.2, 1.0), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(again.poses, views.poses, atol=0, rtol=0)


@pytest.mark.skipif(not EXTRAS.exists(), reason="the parity fixtures are not here")
def test_orbits_of_the_published_code():
    data = np.load(EXTRAS)
    for elevation in (0, 20):
        ours = orbit(8, elevation=math.radians(elevation), radius=1.5)
        np.testing.assert_allclose(ours.poses.numpy(), data[f"vf3d_surround_8_r1.5_e{elevation}"], atol=1e-6)
