"""Procedural objects in the spirit of LRM-Zero (Xie et al. 2024), each a function of its seed alone."""

from __future__ import annotations

from random import Random

import torch
from torch import Tensor

from vfusion3d.data.assemblies import KINDS, assemble
from vfusion3d.data.materials import lighting, palette, surfaces
from vfusion3d.data.parts import pack
from vfusion3d.data.raycast import ProceduralObjects

LICENCE = "CC0-1.0"
"""Of procedural objects and pictures of them."""


def sample_object(seed: int, kind: str | None = None) -> ProceduralObjects:
    """One object without a batch dimension, on the CPU.

    Args:
        seed: Decides everything about the object.
        kind: One of `KINDS`; drawn if None.

    Raises:
        ValueError: if ``kind`` is unknown.
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(f"Argument `kind` must be one of {tuple(KINDS)}, but got {kind!r}.")
    rng = Random(seed)
    drawn = rng.choices(list(KINDS), weights=[weight for weight, _ in KINDS.values()])[0]
    colours = palette(rng)
    paint, light, mirrored = surfaces(rng, colours), lighting(rng), rng.random() < 0.7
    return pack(assemble(kind or drawn, rng, colours), paint, light, mirrored)


def stack_objects(objects: list[ProceduralObjects]) -> ProceduralObjects:
    """Objects without a batch dimension as a batch."""
    return ProceduralObjects(*(torch.stack(fields) for fields in zip(*objects, strict=True)))


def sample_objects(seeds: Tensor, device: torch.device | str = "cpu") -> ProceduralObjects:
    """A batch of objects.

    Args:
        seeds: One per object, int64, ``[B]``; an object depends on nothing else.
        device: Where the objects will be rendered.

    Example:
        >>> from vfusion3d.cameras import orbit
        >>> from vfusion3d.data.raycast import render
        >>> objects = sample_objects(torch.tensor([0, 1]))
        >>> render(objects, orbit(views=3).unsqueeze(0).expand(2, 3), 16, 16).shape
        torch.Size([2, 3, 4, 16, 16])
    """
    objects = stack_objects([sample_object(seed) for seed in seeds.tolist()])
    return ProceduralObjects(*(field.to(device) for field in objects))
