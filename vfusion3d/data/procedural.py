"""Procedural objects in the spirit of LRM-Zero (Xie et al. 2024), each a function of its seed alone."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import torch
from torch import Tensor

from vfusion3d.data.assemblies import KINDS, assemble
from vfusion3d.data.materials import lighting, palette, surfaces
from vfusion3d.data.parts import pack
from vfusion3d.data.raycast import ProceduralObjects
from vfusion3d.errors import UsageError

LICENCE = "CC0-1.0"
"""Of procedural objects and pictures of them."""


def sample_object(seed: int, kinds: Sequence[str] | None = None) -> ProceduralObjects:
    """One object without a batch dimension, on the CPU.

    Args:
        seed: Decides everything about the object.
        kinds: Those of `KINDS` that it may be; all if None.

    Raises:
        UsageError: if one is unknown, or there are none.
    """
    rng = Random(seed)
    drawn = _draw_kind(rng, kinds)
    colours = palette(rng)
    paint, light, mirrored = surfaces(rng, colours), lighting(rng), rng.random() < 0.7
    return pack(assemble(drawn, rng, colours), paint, light, mirrored)


def object_kind(seed: int, kinds: Sequence[str] | None = None) -> str:
    """What `sample_object` draws: one of `KINDS`."""
    return _draw_kind(Random(seed), kinds)


def check_kinds(kinds: Sequence[str] | None) -> None:
    """Refuse what objects cannot be.

    Raises:
        UsageError: naming it.
    """
    unknown = [] if kinds is None else [kind for kind in kinds if kind not in KINDS]
    if unknown or (kinds is not None and not kinds):
        found = repr(unknown[0]) if unknown else "none"
        raise UsageError(f"Argument `kinds` must name some of {', '.join(KINDS)}, but got {found}.")


def _draw_kind(rng: Random, kinds: Sequence[str] | None) -> str:
    check_kinds(kinds)
    chosen = list(KINDS if kinds is None else kinds)
    return rng.choices(chosen, weights=[KINDS[kind][0] for kind in chosen])[0]


def stack_objects(objects: list[ProceduralObjects]) -> ProceduralObjects:
    """Objects without a batch dimension as a batch."""
    return ProceduralObjects(*(torch.stack(fields) for fields in zip(*objects, strict=True)))


def sample_objects(
    seeds: Tensor, device: torch.device | str = "cpu", kinds: Sequence[str] | None = None
) -> ProceduralObjects:
    """A batch of objects.

    Args:
        seeds: One per object, int64, ``[B]``; an object depends on nothing else.
        device: Where the objects will be rendered.
        kinds: As `sample_object`.

    Example:
        >>> from vfusion3d.cameras import orbit
        >>> from vfusion3d.data.raycast import render
        >>> objects = sample_objects(torch.tensor([0, 1]))
        >>> render(objects, orbit(views=3).unsqueeze(0).expand(2, 3), 16, 16).shape
        torch.Size([2, 3, 4, 16, 16])
    """
    objects = stack_objects([sample_object(seed, kinds) for seed in seeds.tolist()])
    return ProceduralObjects(*(field.to(device) for field in objects))
