"""The published sampling against a ray-by-ray reading of its description (`../shared/parity/README.md`)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from vfusion3d import TriplaneReconstructor, orbit
from vfusion3d.cameras import Cameras
from vfusion3d.cameras.orbits import look_at, pinhole
from vfusion3d.rendering.parity import parity_interval, parity_rays, render_rays_parity


class Blob:
    """A soft ball with a colour that depends on the place."""

    def __init__(self, centre: tuple[float, float, float] = (0.2, 0.0, 0.1)) -> None:
        self.centre = torch.tensor(centre)

    def raw_density_and_colour(self, points: Tensor) -> tuple[Tensor, Tensor]:
        return 12 - 25 * (points - self.centre).norm(dim=-1), torch.sigmoid(points * 3)

    def activate(self, raw: Tensor) -> Tensor:
        return torch.nn.functional.softplus(raw - 1)


def by_hand(field, origin, direction, near, far, coarse, fine, shift, unit):
    """(colour, opacity, depth before the clamp, all distances) of one ray, in double precision."""

    def evaluate(t):
        point = origin + direction * t
        if np.abs(point).max() > 1:
            return -1e30, np.zeros(3)
        raw, colour = field.raw_density_and_colour(torch.tensor(point)[None].float())
        return float(raw), colour[0].double().numpy()

    def composite(t):
        values = [evaluate(x) for x in t]
        weights, clear, colour = [], 1.0, np.zeros(3)
        for k in range(len(t) - 1):
            raw = (values[k][0] + values[k + 1][0]) / 2
            sigma = 0.0 if raw < -1e20 else math.log1p(math.exp(raw - 1))
            alpha = 1 - math.exp(-sigma * (t[k + 1] - t[k]))
            weights.append(alpha * clear)
            colour = colour + weights[-1] * (values[k][1] + values[k + 1][1]) / 2
            clear *= 1 - alpha + 1e-10
        return weights, colour

    t = [near + (far - near) * (k + shift) / (coarse - 1) for k in range(coarse)]
    weights, colour = composite(t)
    if fine:
        m = [max(weights[max(j - 1, 0)], weights[min(j, coarse - 2)]) for j in range(coarse)]
        a = [(m[j] + m[j + 1]) / 2 + 0.01 for j in range(coarse - 1)]
        e = [(t[j] + t[j + 1]) / 2 for j in range(coarse - 1)]
        pdf = np.array([a[j + 1] + 1e-5 for j in range(coarse - 3)])
        cdf = [0.0, *np.cumsum(pdf / pdf.sum())]
        for u in unit:
            index = sum(c <= u for c in cdf)
            low, high = max(index - 1, 0), min(index, coarse - 3)
            span = cdf[high] - cdf[low]
            t = [*t, e[low] + (u - cdf[low]) / (1 if span < 1e-5 else span) * (e[high] - e[low])]
        t = sorted(t)
        weights, colour = composite(t)
    opacity = sum(weights)
    middle = sum(w * (a + b) / 2 for w, a, b in zip(weights, t, t[1:], strict=False))
    return colour, opacity, middle / opacity if opacity else math.inf, t


@pytest.mark.parametrize("fine", [0, 7])
def test_against_single_rays(fine: int) -> None:
    eyes = torch.tensor([[1.7, 0.4, 0.3], [0.0, -2.0, 0.5], [0.5, 0.0, 0.2]])  # the last one stands inside the cube
    cameras = look_at(eyes, pinhole(60.0).expand(3, 4))
    origins, directions = (rays.flatten(0, 2)[None].expand(2, -1, -1) for rays in parity_rays(cameras, 4, 4))
    fields = [Blob(), Blob((-0.3, 0.1, 0.0))]
    unit = torch.rand(2, origins.shape[1], fine) * 0.999
    seen = render_rays_parity(fields, origins, directions, 9, fine, torch.tensor(0.4), unit, chunk=50)
    near, far = parity_interval(origins, directions)
    rows = [
        by_hand(
            fields[b], origins[b, r].double().numpy(), directions[b, r].double().numpy(),
            float(near[b, r]), float(far[b, r]), 9, fine, 0.4, unit[b, r].tolist(),
        )
        for b in range(2)
        for r in range(origins.shape[1])
    ]  # fmt: skip
    distances = [t for row in rows for t in row[3]]
    for index, (colour, opacity, depth, _) in enumerate(rows):
        np.testing.assert_allclose(seen.rgb.reshape(-1, 3)[index], colour, atol=2e-5)
        assert float(seen.opacity.flatten()[index]) == pytest.approx(opacity, abs=2e-5)
        if opacity > 1e-3 or opacity == 0:
            clamped = min(max(depth, min(distances)), max(distances))
            assert float(seen.depth.flatten()[index]) == pytest.approx(clamped, abs=2e-4)
    assert float(seen.opacity.max()) > 0.5 and float(seen.opacity.min()) == 0


def test_rays_are_those_of_the_cameras() -> None:
    cameras = orbit(views=3, elevation=0.3, fov=50.0)
    for ours, theirs in zip(parity_rays(cameras, 5, 7), cameras.rays(5, 7), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    window = parity_rays(cameras, 4, 4, top=torch.tensor([1.0, 2, 3]), left=2.0, full=8.0)
    whole = parity_rays(cameras, 8, 8)
    for view, top in enumerate((1, 2, 3)):
        assert torch.equal(window[1][view], whole[1][view, top : top + 4, 2:6])


@torch.no_grad()
def test_triplanes_render_alike_with_many_samples() -> None:
    """Both samplings approach the same integral; the published one needs the object away from its last interval."""
    model = TriplaneReconstructor("tiny").eval()
    picture = torch.zeros(2, 4, 32, 32)
    picture[:, :, 8:24, 8:24] = 1
    triplanes = model(picture, orbit(2))
    cameras: Cameras = orbit(2, radius=3.0).unsqueeze(0).expand(2, 2)
    exact = triplanes.render(cameras, 9, 9, coarse_samples=400, fine_samples=0)
    published = triplanes.render(cameras, 9, 9, coarse_samples=400, fine_samples=0, sampler="parity")
    assert float((exact.rgb - published.rgb).abs().max()) < 0.02
    unit = torch.rand(2, 2, 81, 24)
    one = triplanes.render(cameras, 9, 9, coarse_samples=16, fine_samples=8, sampler="parity", jitter=unit)
    two = triplanes.render(cameras, 9, 9, coarse_samples=16, fine_samples=8, sampler="parity", jitter=unit, chunk=70)
    torch.testing.assert_close(one.rgb, two.rgb, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="`sampler` must be one of"):
        triplanes.render(cameras, 9, 9, sampler="published")  # type: ignore[arg-type]


def test_bad_arguments() -> None:
    rays = torch.zeros(1, 2, 3), torch.ones(1, 2, 3)
    with pytest.raises(ValueError, match=r"must have shape \[2, R, 3\]"):
        render_rays_parity([Blob(), Blob()], *rays)
    with pytest.raises(ValueError, match="`coarse` >= 4"):
        render_rays_parity([Blob()], *rays, coarse=3, fine=1)
