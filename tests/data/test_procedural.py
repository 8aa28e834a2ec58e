from __future__ import annotations

from random import Random

import numpy as np
import pytest
import torch

from vfusion3d.cameras import orbit
from vfusion3d.data.assemblies import KINDS, assemble
from vfusion3d.data.materials import palette
from vfusion3d.data.parts import MARGIN, MAX_CARVERS, MAX_DECALS, MAX_PARTS, Array, Part
from vfusion3d.data.procedural import object_kind, sample_object, sample_objects, stack_objects
from vfusion3d.data.raycast import render
from vfusion3d.errors import UsageError


def contains(item: Part, points: Array, tolerance: float) -> bool:
    local = np.linalg.solve(item.matrix, (points - item.centre).T).T
    qx, qy, qz, lz, c = item.quadric
    value = (local * local) @ [qx, qy, qz] + 2 * lz * local[:, 2] + c
    return bool(((np.abs(local).max(1) < 1 + tolerance) & (value < tolerance)).any())


@pytest.mark.parametrize("kind", KINDS)
def test_assemblies_fit_their_tables_and_hang_together(kind: str) -> None:
    grid = np.random.default_rng(0).uniform(-1, 1, (2000, 3))
    for seed in range(12):
        rng = Random(seed)
        made = assemble(kind, rng, palette(rng))
        assert 1 <= len(made.parts) <= MAX_PARTS
        assert sum(item.carver is not None for item in made.parts) <= MAX_CARVERS
        assert len(made.decals) <= MAX_DECALS
        clouds = []
        for item in made.parts:
            qx, qy, qz, lz, c = item.quadric
            body = grid[(grid * grid) @ [qx, qy, qz] + 2 * lz * grid[:, 2] + c < 0] @ item.matrix.T + item.centre
            clouds.append(np.concatenate([body, item.points()]))
        reached, queue = {0}, [0]
        while queue:
            a = queue.pop()
            for b in set(range(len(made.parts))) - reached:
                if contains(made.parts[a], clouds[b], 0.03) or contains(made.parts[b], clouds[a], 0.03):
                    reached.add(b)
                    queue.append(b)
        assert len(reached) == len(made.parts), f"{kind} of seed {seed} falls apart"


def test_objects_fill_the_unit_sphere_but_stay_inside() -> None:
    objects = sample_objects(torch.arange(60))
    for k in range(60):
        farthest = 0.0
        for transform, quadric in zip(objects.transforms[k].double(), objects.quadrics[k].double(), strict=True):
            if float(quadric[4]) > 0:  # an unused row
                continue
            local = torch.rand(4000, 3, generator=torch.Generator().manual_seed(k), dtype=torch.float64) * 2 - 1
            value = (quadric[:3] * local**2).sum(-1) + 2 * quadric[3] * local[:, 2] + quadric[4]
            world = torch.linalg.solve(transform[:, :3], (local[value <= 0] - transform[:, 3]).T).T
            farthest = max(farthest, float(world.norm(dim=-1).max()))
        assert 0.85 < farthest < 1.0
    assert MARGIN < 1


def test_an_object_is_a_function_of_its_seed_alone() -> None:
    batch = sample_objects(torch.tensor([5, 9, 5]))
    for name, field in batch._asdict().items():
        assert torch.equal(field[0], field[2]), name
        assert torch.equal(field[1], sample_objects(torch.tensor([9]))._asdict()[name][0]), name
    assert not torch.equal(batch.transforms[0], batch.transforms[1])


def test_every_kind_is_seen_from_all_sides() -> None:
    objects = stack_objects([sample_object(7, [kind]) for kind in KINDS])
    images = render(objects, orbit(4, elevation=0.2, start=0.4).unsqueeze(0).expand(len(KINDS), 4), 32, 32)
    assert bool(torch.isfinite(images).all()) and float(images.min()) >= 0 and float(images.max()) <= 1
    assert bool((images[:, :, :3] <= images[:, :, 3:] + 1e-6).all())  # premultiplied
    assert float(images[:, :, 3].mean((-1, -2)).min()) > 0.01
    assert bool((images[:, 0] != images[:, 1]).flatten(1).any(1).all())


def test_kinds_can_be_chosen() -> None:
    chosen = ["chair", "animal"]
    assert {object_kind(seed, chosen) for seed in range(20)} == set(chosen)
    assert torch.equal(sample_object(3, list(KINDS)).transforms, sample_object(3).transforms)
    seed = next(seed for seed in range(20) if object_kind(seed, chosen) == "animal")
    assert torch.equal(sample_object(seed, chosen).transforms, sample_object(seed, ["animal"]).transforms)


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(UsageError, match=r"`kinds` must name some of free, .*, but got 'unicorn'"):
        sample_object(0, ["chair", "unicorn"])
    with pytest.raises(UsageError, match="but got none"):
        sample_object(0, [])
