from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from vfusion3d.cameras import Cameras, fit_radius, look_at, on_sphere, orbit, pinhole
from vfusion3d.data import raycast
from vfusion3d.data.materials import palette, surfaces
from vfusion3d.data.parts import BOX, CYLINDER, ELLIPSOID, Array, Assembly, Lighting, Part, pack, part, rotation_about
from vfusion3d.data.procedural import sample_objects, stack_objects
from vfusion3d.data.raycast import PATTERNS, ProceduralObjects, render

UNLIT = Lighting((1.0, 1.0, 1.0), (1.0, 1.0, 1.0), [], [])


def plain(*colour: float) -> Array:
    return np.array([*colour * 3, *[0.0] * 9, 1.0, *[0.0] * (len(PATTERNS) - 1)])


def one(
    *parts: Part, lighting: Lighting = UNLIT, colours: tuple[Array, ...] = (plain(0.2, 0.4, 0.6),)
) -> ProceduralObjects:
    assembly = Assembly()
    assembly.add(*parts)
    return stack_objects([pack(assembly, list(colours), lighting, mirrored=False)])


def straight(image: Tensor) -> Tensor:
    return image[..., :3, :, :] / image[..., 3:, :, :].clamp_min(1e-6)


@pytest.mark.parametrize("offset", [(0.0, 0.0), (0.15, -0.1)])
def test_sphere_covers_its_projected_area(offset: tuple[float, float]) -> None:
    focal, distance, radius = float(pinhole(40.0)[0]), fit_radius(40.0, 2.0), 0.99
    intrinsics = torch.tensor([focal, focal, 0.5 + offset[0], 0.5 + offset[1]])
    cameras = on_sphere(torch.tensor([[0.3]]), torch.tensor([[0.4]]), distance, intrinsics)
    size = 96
    image = render(one(part(ELLIPSOID, (0, 0, 0), (1, 1, 1))), cameras, size, size, supersample=4)[0, 0]
    area = math.pi * focal**2 * radius**2 / (distance**2 - radius**2) * size**2
    assert float(image[3].sum()) == pytest.approx(area, rel=2e-3)
    column = (image[3].sum(0) * (torch.arange(size) + 0.5)).sum() / image[3].sum() / size
    assert float(column) == pytest.approx(0.5 + offset[0], abs=2e-3)
    torch.testing.assert_close(image[:3], torch.tensor([0.2, 0.4, 0.6])[:, None, None] * image[3], atol=1e-6, rtol=0)


def test_edges_are_smooth_and_supersampling_can_be_switched_off() -> None:
    objects, cameras = one(part(ELLIPSOID, (0, 0, 0), (1, 1, 1))), orbit(1).unsqueeze(0)
    assert len(render(objects, cameras, 48, 48, supersample=1)[0, 0, 3].unique()) == 2
    assert len(render(objects, cameras, 48, 48, supersample=3)[0, 0, 3].unique()) == 10


def test_a_picture_does_not_depend_on_the_batch_or_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    objects, cameras = sample_objects(torch.arange(6)), orbit(3, elevation=0.3).unsqueeze(0).expand(6, 3)
    monkeypatch.setattr(raycast, "_CPU_ELEMENTS", 1)
    alone = render(objects, cameras, 40, 40)
    monkeypatch.setattr(raycast, "_CPU_ELEMENTS", 1 << 30)
    assert torch.equal(alone, render(objects, cameras, 40, 40))
    for k in range(6):
        single = ProceduralObjects(*(field[k : k + 1] for field in objects))
        assert torch.equal(alone[k : k + 1, 1:2], render(single, cameras[k : k + 1, 1:2], 40, 40))


def reflected(objects: ProceduralObjects) -> ProceduralObjects:
    """The objects of the world mirrored across y = 0."""
    flip = torch.tensor([1.0, -1.0, 1.0])
    surfaces_, decals = objects.surfaces.clone(), objects.decals.clone()
    surfaces_[..., 10] *= -1
    surfaces_[..., 13] *= -1
    decals[..., 1] *= torch.where(decals[..., 7] > 0, 1, -1)
    return objects._replace(
        transforms=objects.transforms * torch.cat([flip, torch.ones(1)]),
        carver_transforms=objects.carver_transforms * torch.cat([flip, torch.ones(1)]),
        surfaces=surfaces_,
        carver_surfaces=objects.carver_surfaces * 0 + surfaces_[:, : objects.carver_surfaces.shape[1]],
        decals=decals,
        light_directions=objects.light_directions * flip,
    )


def test_mirrored_cameras_see_the_flipped_picture_of_the_mirrored_world() -> None:
    objects = sample_objects(torch.arange(20, 28))
    objects = objects._replace(mirrored=objects.mirrored * 0)
    objects = objects._replace(carver_surfaces=objects.surfaces[:, : objects.carver_surfaces.shape[1]])
    cameras = orbit(2, elevation=0.4, start=0.5).unsqueeze(0).expand(8, 2)
    before = render(objects, cameras, 32, 32)
    after = render(reflected(objects), cameras.mirrored(), 32, 32)
    wrong = (before.flip(-1) - after).abs().amax(2) > 1e-3
    assert float(wrong.float().mean()) < 2e-3  # texture edges may fall on the other side of a ray
    assert float((before - after).abs().mean()) > 1e-2


def test_light_is_fixed_in_the_world() -> None:
    light = Lighting((0.3, 0.3, 0.3), (0.2, 0.2, 0.2), [(1.0, 0.5, 0.8)], [(0.6, 0.6, 0.6)])
    objects = one(part(ELLIPSOID, (0, 0, 0), (1, 1, 1)), lighting=light, colours=(plain(0.8, 0.8, 0.8),))
    cameras = orbit(8, elevation=0.5, start=0.3).unsqueeze(0)
    image = straight(render(objects, cameras, 256, 256, supersample=1))[0]
    points = torch.nn.functional.normalize(torch.tensor([[1.0, 0.6, 0.9], [0.2, 0.1, 1.0], [-0.3, 0.2, 1.0]]), dim=-1)
    direction = torch.nn.functional.normalize(torch.tensor([1.0, 0.5, 0.8]), dim=0)
    seen = 0
    for point in points:
        cosine = float((point @ direction).clamp_min(0))
        expected = 0.8 * (0.2 + (float(point[2]) * 0.5 + 0.5) * 0.1 + 0.6 * cosine)
        uv, _ = cameras[0].project((0.99 * point).expand(8, 1, 3))
        for view in range(8):
            if float((cameras[0].centers[view] - 0.99 * point) @ point) > 0.5:  # faces the camera
                x, y = (uv[view, 0] * 256).long().tolist()
                assert float(image[view, 0, y, x]) == pytest.approx(expected, abs=2 / 255)
                seen += 1
    assert seen >= 9


def test_box_faces_have_their_colours() -> None:
    colours = np.array([1, 0, 0, 0, 1, 0, 0, 0, 1, *[0.0] * 9, *(float(name == "faces") for name in PATTERNS)])
    objects = one(part(BOX, (0, 0, 0), (1, 1, 1)), colours=(colours,))
    eyes = torch.tensor([[[4.0, 0.01, 0.01], [0.01, 4.0, 0.01], [0.01, 0.01, 4.0]]])
    centre = render(objects, look_at(eyes, pinhole()), 15, 15)[0, :, :, 7, 7]
    torch.testing.assert_close(centre, torch.tensor([[1.0, 0, 0, 1], [0, 0, 1, 1], [0, 1, 0, 1]]))


def test_a_tube_is_hollow() -> None:
    hole = part(CYLINDER, (0, 0, 0), (0.7, 0.7, 2), 1)
    objects = one(part(CYLINDER, (0, 0, 0), (1, 1, 0.5), 0, carver=hole), colours=(plain(1, 0, 0), plain(0, 1, 0)))
    down = render(objects, look_at(torch.tensor([[[0.0, 0.0, 4.0]]]), pinhole()), 65, 65)[0, 0]
    assert down[:, 32, 32].tolist() == [0, 0, 0, 0]
    ring = math.pi * (1 - 0.49)
    across = float(pinhole()[0]) * 65 / (4 - 0.5 * 0.99 / math.sqrt(1.25))
    assert float(down[0].sum()) == pytest.approx(ring * (across * 0.99 / math.sqrt(1.25)) ** 2, rel=0.05)
    slanted = render(objects, look_at(torch.tensor([[[2.0, 0.0, 3.0]]]), pinhole()), 65, 65)[0, 0]
    assert float(slanted[1].sum()) > 20  # the inner wall shows the carver's colour


def inside(objects: ProceduralObjects, points: Tensor) -> Tensor:
    """Whether points ``[N, 3]`` lie in the (single) object, from the definition alone."""

    def bodies(transforms: Tensor, quadrics: Tensor) -> Tensor:
        used = quadrics[:, 4] < 0
        transforms, quadrics = transforms[used], quadrics[used]
        local = (transforms[:, None, :, :3] @ points[None, :, :, None])[..., 0] + transforms[:, None, :, 3]
        q = quadrics[:, None]
        value = (q[..., :3] * local**2).sum(-1) + 2 * q[..., 3] * local[..., 2] + q[..., 4]
        return (value <= 0) & (local.abs() <= 1).all(-1)

    solid = bodies(objects.transforms[0].double(), objects.quadrics[0].double())
    hollow = bodies(objects.carver_transforms[0].double(), objects.carver_quadrics[0].double())
    solid[: len(hollow)] &= ~hollow
    return solid.any(0)


@pytest.mark.parametrize("seed", range(6))
def test_silhouettes_agree_with_marching_through_the_definition(seed: int) -> None:
    objects = sample_objects(torch.tensor([100 + seed]))
    cameras = orbit(1, elevation=0.5, start=0.7 * seed)
    mask = render(objects, cameras.unsqueeze(0), 24, 24, supersample=1)[0, :, 3].bool()
    origins, directions = (x.double().reshape(-1, 3) for x in cameras.rays(24, 24))
    distance = fit_radius(40.0) + torch.linspace(-1, 1, 400, dtype=torch.float64)
    marched = inside(objects, (origins[:, None] + distance[:, None] * directions[:, None]).reshape(-1, 3))
    marched = marched.view(1, 24, 24, 400).any(-1)
    assert not bool((marched & ~mask).any())  # nothing that is there is missed
    assert float((mask & ~marched).float().mean()) < 4e-3  # slivers thinner than the step


def test_patterns_paint_more_than_one_colour() -> None:
    from random import Random

    counts = {}
    for seed in range(40):
        rng = Random(seed)
        row = surfaces(rng, palette(rng))[0]
        pattern = PATTERNS[int(row[18:].argmax())]
        objects = one(part(BOX, (0, 0, 0), (0.8, 1, 1), turn=rotation_about((0, 1, 1), 0.5)), colours=(row,))
        image = straight(render(objects, orbit(1, elevation=0.4).unsqueeze(0), 48, 48, supersample=1))[0, 0]
        alpha = render(objects, orbit(1, elevation=0.4).unsqueeze(0), 48, 48, supersample=1)[0, 0, 3] > 0
        counts.setdefault(pattern, []).append(len(torch.unique((image[:, alpha] * 255).round(), dim=1).T))
    assert set(counts) == set(PATTERNS)
    assert all(max(found) >= 2 for name, found in counts.items() if name != "plain")


def test_objects_behind_the_camera_are_not_seen() -> None:
    cameras = orbit(1).unsqueeze(0)
    turned = Cameras(cameras.poses * torch.tensor([-1.0, 1.0, -1.0, 1.0]), cameras.intrinsics)
    assert float(render(sample_objects(torch.tensor([0])), turned, 16, 16).abs().max()) == 0


def test_wrong_camera_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must have shape \[2, V\], but got \[3\]"):
        render(sample_objects(torch.arange(2)), orbit(3), 8, 8)
