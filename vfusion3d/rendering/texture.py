"""Textures baked from a radiance field: each texel is what rays see that meet the surface there."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from vfusion3d.rendering.lattice import Progress
from vfusion3d.rendering.quadrature import compositing_weights

Query = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Maps points ``[N, 3]`` to density ``[N]`` and sRGB colour ``[N, 3]``."""

OUTSIDE, INSIDE = 0.2, 0.3
"""Where a texel's ray begins before the surface and ends behind it, world units."""
RAYS, TILT = 3, math.pi / 4
"""Rays of a texel, and the angle between them and the surface's normal: a soft field looks different from each side."""
SAMPLES = 8
"""Samples of a ray, closest at the surface."""
_CANDIDATES = 1 << 21  # texels looked at together


class Texels(NamedTuple):
    """Texels whose centres lie in a face."""

    row: np.ndarray
    """``[K]``, 0 at the top (v = 1)."""
    column: np.ndarray
    """``[K]``."""
    face: np.ndarray
    """``[K]``."""
    shares: np.ndarray
    """Barycentric coordinates ``[K, 3]``."""


def bake(
    query: Query,
    vertices: np.ndarray,
    normals: np.ndarray,
    faces: np.ndarray,
    uv: np.ndarray,
    size: int,
    outside: float = OUTSIDE,
    inside: float = INSIDE,
    chunk: int = 65536,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> np.ndarray:
    """The texture of a mesh, baked by integrating the field along short rays through its surface.

    A field has no sharp surface: its colour is composited along rays from outside to inside, as a pixel's is, and a
    texel is the mean of what a few rays see that meet it from different sides.

    Args:
        query: The radiance field, in the frame of the vertices.
        vertices, normals: ``[N, 3]``; normals of unit length, pointing outwards.
        faces: ``[M, 3]``.
        uv: Texture coordinates with v pointing up, ``[N, 2]`` in [0, 1].
        size: Texels a side.
        outside, inside: Where rays begin before the surface and end behind it, in the frame's units.
        chunk: Points evaluated at once.
        device: Where points are made.
        progress: Called with the parts done and in all.

    Returns:
        sRGB uint8 ``[size, size, 3]``, row 0 at v = 1; texels between the charts have the colour of the nearest one
        in a chart.
    """
    texels = rasterise(uv, faces, size)
    picture = np.full((size, size, 3), 128, dtype=np.uint8)
    covered = np.zeros((size, size), dtype=bool)
    parts = np.array_split(np.arange(len(texels.face)), max(1, -(-len(texels.face) * RAYS * SAMPLES // chunk)))
    for number, part in enumerate(parts):
        corners, shares = faces[texels.face[part]], texels.shares[part][..., None]
        places = (vertices[corners] * shares).sum(1)
        directions = -(normals[corners] * shares).sum(1)
        directions /= np.linalg.norm(directions, axis=-1, keepdims=True).clip(1e-12)
        surface, inwards = (torch.from_numpy(a.astype(np.float32)).to(device) for a in (places, directions))
        rays = _around(inwards)
        colours = _seen(query, surface.repeat(len(rays), 1), rays.flatten(0, 1), outside, inside)
        colours = colours.view(rays.shape).mean(0)
        picture[texels.row[part], texels.column[part]] = (colours.clamp(0, 1) * 255 + 0.5).to(torch.uint8).cpu().numpy()
        if progress is not None:
            progress(number + 1, len(parts))
    covered[texels.row, texels.column] = True
    if covered.any() and not covered.all():
        row, column = distance_transform_edt(~covered, return_distances=False, return_indices=True)
        picture = picture[row, column]
    return picture


def _around(axes: Tensor) -> Tensor:
    """Unit vectors ``[RAYS, R, 3]`` at an angle of `TILT` around unit vectors ``[R, 3]``, evenly spread."""
    least = torch.nn.functional.one_hot(axes.abs().argmin(-1), 3).to(axes)
    side = torch.nn.functional.normalize(torch.linalg.cross(axes, least), dim=-1)
    other = torch.linalg.cross(axes, side)
    turn = torch.arange(RAYS, device=axes.device)[:, None, None] * (2 * math.pi / RAYS)
    return axes * math.cos(TILT) + (side * turn.cos() + other * turn.sin()) * math.sin(TILT)


@torch.no_grad()
def _seen(query: Query, surface: Tensor, inwards: Tensor, outside: float, inside: float) -> Tensor:
    """Colours ``[R, 3]`` composited along rays through points of the surface, closely sampled there.

    Outside, a ray begins where the density begins to grow again: that is another part of the object, in front of this.
    """
    half = SAMPLES // 2
    edges = (torch.arange(half + 1, device=surface.device) / half).square()
    edges = torch.cat([-outside * edges.flip(0), inside * edges[1:]])
    depths = (edges[1:] + edges[:-1]) / 2
    density, colour = query((surface[:, None] + inwards[:, None] * depths[:, None]).reshape(-1, 3))
    density, colour = density.view(-1, 2 * half), colour.view(-1, 2 * half, 3)
    outwards = density[:, :half].flip(-1)
    grows = torch.nn.functional.pad(outwards.diff(dim=-1) > 0, (1, 0))
    before = torch.where(grows.cumsum(-1) > 0, 0.0, outwards).flip(-1)
    weights = compositing_weights(torch.cat([before, density[:, half:]], -1), edges.diff())
    weights[:, half - 1 : half + 1] += 1e-4  # what hardly stops light has its own colour, not that behind it
    return (weights[..., None] * colour).sum(1) / weights.sum(-1, keepdim=True)


def rasterise(uv: np.ndarray, faces: np.ndarray, size: int) -> Texels:
    """The texels of a texture that faces cover.

    Args:
        uv: Texture coordinates with v pointing up, ``[N, 2]``.
        faces: ``[M, 3]``.
        size: Texels a side.

    Returns:
        Each covered texel once, with the last face that covers its centre.
    """
    corners = uv[faces].astype(np.float64) * size
    corners[..., 1] = size - corners[..., 1]
    found = [part for part in _candidates(corners, size) if len(part.face)]
    if not found:
        empty = np.zeros(0, dtype=np.int64)
        return Texels(empty, empty, empty, np.zeros((0, 3)))
    every = Texels(*map(np.concatenate, zip(*found, strict=True)))
    _, last = np.unique((every.row * size + every.column)[::-1], return_index=True)
    return Texels(*(values[len(every.face) - 1 - last] for values in every))


def _candidates(corners: np.ndarray, size: int) -> Iterator[Texels]:
    """Covered texels of faces with corners ``[M, 3, 2]`` (column, row), a few faces at a time."""
    low = np.ceil(corners.min(1) - 0.5).astype(np.int64).clip(0, size)
    high = (np.floor(corners.max(1) - 0.5).astype(np.int64) + 1).clip(0, size)
    width, height = (high - low).clip(0).T
    a, edge1, edge2 = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    double = edge1[:, 0] * edge2[:, 1] - edge1[:, 1] * edge2[:, 0]
    count = np.where(np.abs(double) > 1e-12, width * height, 0)
    groups = (np.cumsum(count) - 1).clip(0) // _CANDIDATES
    for chosen in np.split(np.arange(len(corners)), np.flatnonzero(np.diff(groups)) + 1):
        face = np.repeat(chosen, count[chosen])
        start = np.cumsum(count[chosen]) - count[chosen]
        step = np.arange(len(face)) - np.repeat(start, count[chosen])
        column, row = low[face, 0] + step % width[face].clip(1), low[face, 1] + step // width[face].clip(1)
        x, y = column + 0.5 - a[face, 0], row + 0.5 - a[face, 1]
        second = (x * edge2[face, 1] - y * edge2[face, 0]) / double[face]
        third = (y * edge1[face, 0] - x * edge1[face, 1]) / double[face]
        shares = np.stack([1 - second - third, second, third], axis=-1)
        covered = shares.min(-1) >= -1e-9
        yield Texels(row[covered], column[covered], face[covered], shares[covered])
