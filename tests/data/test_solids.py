from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import default_collate

from tests.data.test_raycast import one
from vfusion3d.cameras import Cameras, orbit, random_sphere
from vfusion3d.data import MixedDataModule, ProceduralDataModule, RenderedDataModule
from vfusion3d.data.parts import BOX, CYLINDER, ELLIPSOID, part
from vfusion3d.data.procedural import sample_objects
from vfusion3d.data.raycast import render
from vfusion3d.data.rendered_module import find_scenes
from vfusion3d.data.resize import area_resize
from vfusion3d.data.solids import POINT_RADIUS, ball_points, inside_hull, inside_objects
from vfusion3d.data.views_dataset import SceneItems, ViewsDataset, delivered
from vfusion3d.errors import UsageError


def test_points_fill_the_ball_evenly() -> None:
    points = ball_points(torch.rand(40000, 3))
    distance = points.norm(dim=-1) / POINT_RADIUS
    assert float(distance.max()) <= 1 + 1e-6
    # A ball within holds its share of the volume, an octant an eighth.
    assert float((distance < 0.5).float().mean()) == pytest.approx(0.125, abs=0.01)
    assert float((points > 0).all(-1).float().mean()) == pytest.approx(0.125, abs=0.01)


def test_inside_of_a_ball_and_of_a_box() -> None:
    points = torch.rand(1, 4000, 3) * 2.4 - 1.2
    ball = inside_objects(one(part(ELLIPSOID, (0, 0, 0), (2, 2, 2))), points)[0]
    assert torch.equal(ball, points[0].norm(dim=-1) <= 0.99)
    # A box twice as long, in any units: scaled until its corners touch the unit sphere.
    box = inside_objects(one(part(BOX, (5, 1, 2), (2, 1, 1))), points)[0]
    half = torch.tensor([2.0, 1.0, 1.0]) * 0.99 / 6**0.5
    assert torch.equal(box, (points[0].abs() <= half).all(-1))


def test_what_is_hollowed_is_outside() -> None:
    cup = part(CYLINDER, (0, 0, 0), (1, 1, 1), carver=part(CYLINDER, (0, 0, 0.2), (0.8, 0.8, 1)))
    scale = 0.99 / 2**0.5
    points = torch.tensor([[[0.0, 0.0, 0.5], [0.0, 0.0, -0.9], [0.9, 0.0, 0.5], [0.0, 0.0, 1.1]]]) * scale
    assert inside_objects(one(cup), points).tolist() == [[False, True, True, False]]


def test_inside_agrees_with_what_the_ray_caster_sees() -> None:
    """A pixel is opaque just where its ray passes through a point inside."""
    objects = sample_objects(torch.arange(8))
    cameras = random_sphere(2, generator=torch.Generator().manual_seed(0)).unsqueeze(0).expand(8, 2)
    alpha = render(objects, cameras, 16, 16, supersample=1)[:, :, 3]
    origins, directions = cameras.rays(16, 16)
    steps = torch.linspace(0, 1, 400)
    distance = origins.norm(dim=-1, keepdim=True)
    path = origins[..., None, :] + directions[..., None, :] * (distance - 1.2 + 2.4 * steps)[..., None]
    hit = inside_objects(objects, path.flatten(1, -2)).view(*alpha.shape, len(steps)).any(-1)
    # Thinner than a step or grazing is missed now and then; the other way round would be a wrong label.
    assert not bool((hit & (alpha < 0.5)).any())
    assert float((hit == (alpha > 0.5)).float().mean()) > 0.995


def test_hull_of_a_ball() -> None:
    cameras = random_sphere(40, zoom=(1.1, 1.2), generator=torch.Generator().manual_seed(0))
    masks = render(one(part(ELLIPSOID, (0, 0, 0), (1, 1, 1))), cameras.unsqueeze(0), 96, 96)[0, :, 3]
    points = ball_points(torch.rand(5000, 3))
    distance = points.norm(dim=-1)
    hull = inside_hull(masks, cameras, points)
    assert bool(hull[distance < 0.95].all()) and not bool(hull[distance > 1.08].any())
    assert torch.equal(hull, inside_hull((masks * 255).round().byte(), cameras, points))


def test_hull_keeps_what_is_thinner_than_a_pixel() -> None:
    rod = one(part(CYLINDER, (0, 0, 0), (0.01, 0.01, 1)))  # about one pixel across
    cameras = random_sphere(40, generator=torch.Generator().manual_seed(0))
    masks = area_resize(render(rod, cameras.unsqueeze(0), 384, 384)[0], 96, 96)[:, 3]
    points = torch.rand(1000, 3) * torch.tensor([0.01, 0.01, 1.8]) - torch.tensor([0.005, 0.005, 0.9])
    assert bool(inside_objects(rod, points[None]).all())
    assert float(inside_hull(masks, cameras, points).float().mean()) > 0.9


def test_hull_asks_only_cameras_that_see_the_point() -> None:
    away = orbit(1)
    away = Cameras(away.poses * torch.tensor([-1.0, 1.0, -1.0, 1.0]), away.intrinsics)  # turned about its up axis
    empty = torch.zeros(1, 8, 8)
    centre = torch.zeros(1, 3)
    assert inside_hull(empty, away, centre).tolist() == [False]
    both = Cameras.cat([away, orbit(1)])
    assert inside_hull(torch.cat([empty, empty + 1]), both, centre).tolist() == [True]
    assert inside_hull(torch.cat([empty + 1, empty]), both, centre).tolist() == [False]


def test_procedural_batches_are_labelled() -> None:
    data = ProceduralDataModule(samples_per_epoch=4, batch_size=2, views=1, resolution=8, points=50)
    raw = next(iter(data.train_dataloader()))
    batch = data.on_after_batch_transfer(raw, 0)
    assert batch["points"].shape == (2, 50, 3) and batch["inside"].shape == (2, 50)
    assert torch.equal(batch["inside"] > 0, inside_objects(raw["objects"], batch["points"]))
    assert not torch.equal(batch["points"][0], batch["points"][1])
    assert "points" not in ProceduralDataModule(batch_size=2, resolution=8).on_after_batch_transfer(raw, 0)


def test_rendered_items_are_labelled_also_when_mirrored(scene_root: Path) -> None:
    scenes = SceneItems.load(find_scenes(scene_root))
    plain, mirrored = (
        ViewsDataset([scenes], 2, 24, seed=0, mirror=mirror, points=300, cache_gib=cache)
        for mirror, cache in ((False, 1.0), (True, 0.0))
    )
    flips = 0
    for sample in range(10):
        item, other = plain[(0, sample)], mirrored[(0, sample)]
        images = delivered(default_collate([other]), 24)["images"][0]
        flipped = not torch.equal(item["poses"], other["poses"])
        flips += flipped
        torch.testing.assert_close(other["points"], item["points"] * torch.tensor([1.0, -1.0 if flipped else 1.0, 1.0]))
        assert float((item["inside"] == other["inside"]).float().mean()) > 0.99  # the cache rounds opacities
        hull = inside_hull(images[:, 3], Cameras(other["poses"], other["intrinsics"]), other["points"])
        assert bool((hull | (other["inside"] < 1)).all())  # two of the pictures allow all that the six allow
    assert 0 < flips < 10


def test_mixtures_join_labels(scene_root: Path, fit: Callable[..., Any]) -> None:
    def mixture(first: int, second: int) -> MixedDataModule:
        return MixedDataModule(
            [
                RenderedDataModule(str(scene_root), batch_size=1, resolution=24, points=first),
                ProceduralDataModule(samples_per_epoch=2, batch_size=1, resolution=16, points=second),
            ]
        )

    [batch, _] = fit(mixture(30, 30)).batches[:2]
    assert batch["points"].shape == (2, 30, 3) and batch["inside"].shape == (2, 30)
    with pytest.raises(UsageError, match=r"must label as many `points`, but got \[0, 30\]"):
        fit(mixture(30, 0))
