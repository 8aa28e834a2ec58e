"""The shipped renderer against its textbook twin and against analytic pictures."""

from __future__ import annotations

import pytest
import torch

from vfusion3d import ReconstructorConfig, TriplaneReconstructor, orbit, random_sphere
from vfusion3d.rendering import render_rays
from vfusion3d.rendering.quadrature import box_interval, coarse_depths, importance_depths, interval_edges
from vfusion3d.rendering.textbook import textbook_render


class Medium:
    """Constant density and colour in the cube."""

    def __init__(self, density: float) -> None:
        self.sigma = density

    def density(self, points):
        return self.sigma * (points.abs() <= 1 + 1e-6).all(-1).float()

    def density_and_colour(self, points):
        return self.density(points), torch.full_like(points, 0.25)


class Ball(Medium):
    def density(self, points):
        return self.sigma * (points.norm(dim=-1) < 0.5).float()


def rays(cameras, size=12):
    origins, directions = cameras.rays(size, size)
    return origins.reshape(-1, 3), directions.reshape(-1, 3)


def triplanes(padding, aligned, slope, grad=False):
    changes = {"plane_padding": padding, "pixel_aligned_channels": aligned, "density_sphere_slope": slope}
    changes["depth_frequencies"] = 2 if aligned else 0
    torch.manual_seed(3)
    model = TriplaneReconstructor(ReconstructorConfig.preset("tiny", **changes))
    for parameter in model.field.parameters():  # a soft, structured scene rather than an almost empty one
        parameter.data *= 2
    images = torch.rand(1, 4, 32, 32)
    with torch.set_grad_enabled(grad):
        return model, model(images, random_sphere(1, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize(("aligned", "slope"), [(0, 0.0), (8, 4.0)])
@pytest.mark.parametrize(("coarse", "fine"), [(16, 0), (12, 8)])
def test_equals_the_textbook(padding, aligned, slope, coarse, fine):
    model, planes = triplanes(padding, aligned, slope, grad=True)
    for k, layer in enumerate(model.field.layers):
        if isinstance(layer, torch.nn.ReLU):  # a sample on the kink of one would have two gradients, by rounding
            model.field.layers[k] = torch.nn.SiLU()
    o, d = rays(random_sphere(2, generator=torch.Generator().manual_seed(5)).transform(planes.to_model[0]))
    results = []
    leaves = [planes.planes] + ([planes.source_features] if aligned else [])
    for renderer in ("textbook", "shipped"):
        if renderer == "textbook":
            out = textbook_render(planes, o, d, coarse, fine)
        else:
            out = render_rays(planes.object_field(0), o, d, coarse, fine, chunk=512)
        target = torch.linspace(0, 1, out.rgb.numel()).view_as(out.rgb)
        loss = (out.rgb - target).square().sum() + out.opacity.sum() + out.depth.sum()
        weights = list(model.field.parameters())
        results.append((out, torch.autograd.grad(loss, leaves + weights, retain_graph=True)))
    (book, book_grads), (ours, our_grads) = results
    opacity = book.opacity.detach()
    assert 0.02 < float(opacity.mean()) < 0.98 and float(opacity.max()) > 0.1
    for name in ("rgb", "opacity"):
        torch.testing.assert_close(getattr(ours, name), getattr(book, name), atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.depth, book.depth, atol=1e-4, rtol=1e-4)
    for a, b in zip(our_grads, book_grads, strict=True):
        assert float((a - b).abs().max()) <= 1e-4 * max(1.0, float(b.abs().max()))


def test_without_gradients_nothing_changes():
    """Without gradients no sample is evaluated twice; the picture stays the same."""
    _, planes = triplanes("border", 8, 4.0, grad=True)
    o, d = rays(orbit(2))
    shift = torch.rand(len(o), 2)
    for jitter in (None, shift):
        with_gradients = render_rays(planes.object_field(0), o, d, 12, 8, jitter)
        with torch.no_grad():
            without = render_rays(planes.object_field(0), o, d, 12, 8, jitter)
        for a, b in zip(with_gradients, without, strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_chunks_and_recomputation_change_nothing():
    _, planes = triplanes("border", 8, 4.0, grad=True)
    o, d = rays(orbit(1))
    gradients = []
    for chunk, recompute in ((64, True), (1 << 20, False)):
        out = render_rays(planes.object_field(0), o, d, 8, 8, chunk=chunk, recompute=recompute)
        gradients.append((out.rgb, *torch.autograd.grad(out.rgb.square().sum(), [planes.planes], retain_graph=True)))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("coarse", "fine"), [(1, 0), (7, 0), (16, 16)])
@pytest.mark.parametrize("jitter", [False, True])
def test_uniform_medium_has_its_analytic_opacity(coarse, fine, jitter):
    o, d = rays(orbit(2, radius=3.0))
    shift = torch.rand(len(o), 2) if jitter else None
    out = render_rays(Medium(0.7), o, d, coarse, fine, shift)
    near, far = box_interval(o, d)
    expected = 1 - torch.exp(-0.7 * (far - near))
    torch.testing.assert_close(out.opacity, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(out.rgb, 0.25 * expected[:, None].expand(-1, 3), atol=1e-5, rtol=1e-5)


def test_same_picture_every_time():
    _, planes = triplanes("border", 8, 4.0)
    with torch.no_grad():
        a = planes.render(orbit(2).unsqueeze(0), 8, 8)
        b = planes.render(orbit(2).unsqueeze(0), 8, 8)
    assert torch.equal(a.rgb, b.rgb) and torch.equal(a.depth, b.depth)


def test_camera_turned_away_sees_nothing():
    o, d = rays(orbit(1, radius=3.0))
    away = render_rays(Ball(50.0), o, -d)
    assert float(away.opacity.max()) == 0 and float(away.depth.max()) == 0
    towards = render_rays(Ball(50.0), o, d)
    assert float(towards.opacity.max()) > 0.99


def test_camera_inside_sees_only_ahead():
    origin = torch.tensor([[0.7, 0.0, 0.0]])
    ahead = render_rays(Ball(80.0), origin, torch.tensor([[-1.0, 0.0, 0.0]]))
    behind = render_rays(Ball(80.0), origin, torch.tensor([[1.0, 0.0, 0.0]]))
    assert float(ahead.opacity) > 0.99 and float(behind.opacity) == 0
    assert abs(float(ahead.depth) - 0.2) < 0.03


def test_view_alone_equals_view_in_a_batch():
    _, planes = triplanes("border", 8, 4.0)
    cameras = random_sphere(3, generator=torch.Generator().manual_seed(9)).unsqueeze(0)
    with torch.no_grad():
        together = planes.render(cameras, 9, 7)
        for k in range(3):
            for a, b in zip(together, planes.render(cameras[:, k : k + 1], 9, 7), strict=True):
                torch.testing.assert_close(a[:, k : k + 1], b, atol=1e-6, rtol=1e-6)


def test_window_equals_part_of_the_picture():
    _, planes = triplanes("border", 8, 4.0)
    camera = orbit(1).unsqueeze(0)
    with torch.no_grad():
        whole = planes.render(camera, 16, 16).rgb[..., 4:12, 8:16]
        window = planes.render(camera.crop(0.5, 0.25, 0.5, 0.5), 8, 8).rgb
    torch.testing.assert_close(whole, window, atol=1e-5, rtol=1e-4)


def test_one_ray_and_no_hit():
    origin, direction = torch.tensor([[3.0, 0.0, 0.0]]), torch.tensor([[-1.0, 0.0, 0.0]])
    assert render_rays(Medium(1.0), origin, direction).rgb.shape == (1, 3)
    missed = render_rays(Medium(1.0), origin, torch.tensor([[0.0, 1.0, 0.0]]))
    assert float(missed.opacity) == 0


def test_gradients_of_empty_rays_are_finite():
    model, planes = triplanes("zeros", 0, 0.0, grad=True)
    model.field.layers[-1].bias.data[0] = -200.0  # softplus underflows to exactly zero
    o, d = rays(orbit(1))
    out = render_rays(planes.object_field(0), o, d, 8, 8)
    assert float(out.opacity.max()) == 0
    (out.depth.sum() + out.rgb.sum() + out.opacity.sum()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.field.parameters() if p.grad is not None)


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"\[R, 3\]"):
        render_rays(Medium(1.0), torch.zeros(2, 3), torch.zeros(3, 3))
    with pytest.raises(ValueError, match="`coarse` >= 1"):
        render_rays(Medium(1.0), torch.zeros(2, 3), torch.zeros(2, 3), coarse=0)


def test_importance_samples_land_on_the_surface_and_stay_in_range():
    near, far = torch.tensor([0.0]), torch.tensor([1.0])
    depths = coarse_depths(near, far, torch.full((10,), 0.5))
    edges = interval_edges(depths, near, far)
    for peak in (0, 5, 9):  # the first and last intervals count as any other
        weights = torch.zeros(1, 10)
        weights[0, peak] = 1
        extra = importance_depths(edges, weights, (torch.arange(100) + 0.5) / 100)
        assert (extra.diff() >= 0).all() and extra.min() >= 0 and extra.max() <= 1
        inside = (extra >= edges[0, peak] - 0.1001) & (extra <= edges[0, peak + 1] + 0.1001)
        assert inside.float().mean() > 0.9
        own = (extra >= edges[0, peak]) & (extra <= edges[0, peak + 1])
        assert own.float().mean() > 0.4
