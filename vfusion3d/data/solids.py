"""Points in space and whether they lie inside an object: direct supervision of geometry (ours, not the paper's)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vfusion3d.cameras import Cameras
from vfusion3d.data.raycast import ProceduralObjects

_EMPTY = 0.1  # opacity up to which a camera sees past the object
POINT_RADIUS = 1.1
"""Points are drawn from the ball of this radius, a little more than the unit sphere that objects are scaled to."""


def ball_points(unit: Tensor) -> Tensor:
    """Uniform points in the ball of radius `POINT_RADIUS`.

    Args:
        unit: Uniform numbers in [0, 1), ``[..., 3]``.

    Returns:
        ``[..., 3]``.

    Example:
        >>> import torch
        >>> ball_points(torch.tensor([0.125, 1.0, 0.0])).tolist()
        [0.0, 0.0, 0.550000011920929]
    """
    radius = POINT_RADIUS * unit[..., 0] ** (1 / 3)
    z = 2 * unit[..., 1] - 1
    across = (1 - z * z).clamp_min(0).sqrt() * radius
    angle = 2 * math.pi * unit[..., 2]
    return torch.stack([across * angle.cos(), across * angle.sin(), z * radius], -1)


@torch.no_grad()
def inside_objects(objects: ProceduralObjects, points: Tensor) -> Tensor:
    """Which points lie in one of an object's parts and not in what hollows it, analytically.

    Args:
        objects: B procedural objects.
        points: World points ``[B, N, 3]``.

    Returns:
        bool ``[B, N]``.
    """
    solid = _inside_parts(objects.transforms, objects.quadrics, points)
    hollow = _inside_parts(objects.carver_transforms, objects.carver_quadrics, points)
    carvers = hollow.shape[1]
    solid[:, :carvers] &= ~hollow
    return solid.any(1)


def _inside_parts(transforms: Tensor, quadrics: Tensor, points: Tensor) -> Tensor:
    """Whether points ``[B, N, 3]`` are in each of the parts ``[B, P, ...]``: bool ``[B, P, N]``."""
    linear, shift = transforms[..., :3], transforms[..., 3]
    x, y, z = (
        sum(linear[:, :, row, k, None] * points[:, None, :, k] for k in range(3)) + shift[:, :, row, None]
        for row in range(3)
    )
    qx, qy, qz, lz, c = quadrics[..., None].unbind(2)
    level = qx * x * x + qy * y * y + qz * z * z + 2 * lz * z + c
    return (torch.stack([x, y, z]).abs().amax(0) <= 1) & (level <= 0)


@torch.no_grad()
def inside_hull(masks: Tensor, cameras: Cameras, points: Tensor) -> Tensor:
    """Which points lie in the visual hull: no camera that has them in its picture sees past the object there.

    A camera sees past where a pixel is all but empty, so that parts thinner than a pixel stay; the hull may be larger
    than the object by half a pixel, and hollows that no silhouette shows count as filled.

    Args:
        masks: Opacities ``[V, H, W]``, in [0, 1] or uint8.
        cameras: Their cameras, ``[V]``.
        points: World points ``[N, 3]``.

    Returns:
        bool ``[N]``; a point that no camera sees counts as outside.
    """
    views, height, width = masks.shape
    uv, depth = cameras.project(points.expand(views, -1, 3))
    column, row = (uv[..., 0] * width).floor().long(), (uv[..., 1] * height).floor().long()
    seen = (depth > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    index = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
    full = 255 if masks.dtype == torch.uint8 else 1
    solid = masks.flatten(1).gather(1, index) > _EMPTY * full
    return (solid | ~seen).all(0) & seen.any(0)
