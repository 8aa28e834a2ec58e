"""A short renderer that is obviously right and slow: the oracle of the tests and of the speed benchmark.

It states the volume-rendering integral (NeRF, eq. 3, arXiv 2003.08934) with plain tensors, all samples at
once: planes are looked up with `grid_sample`, concatenated and sent through the MLP as a textbook writes it.
Nothing here is shared with the shipped renderer but the definition of the samples' positions.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vfusion3d.rendering.quadrature import box_interval, coarse_depths, importance_depths, interval_edges
from vfusion3d.rendering.volume import RayColours


class TextbookField:
    """The radiance field of a single-object `Triplanes` in its model frame, evaluated as it is defined."""

    def __init__(self, triplanes: Any) -> None:
        self.triplanes = triplanes

    def raw_density_and_colour(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Density before `activate` ``[N]`` and colour ``[N, 3]`` at points ``[N, 3]``, outside the cube too."""
        return _raw_density_and_colour(self.triplanes, points)

    def activate(self, raw: Tensor) -> Tensor:
        """Density per world unit of raw density."""
        return F.softplus(raw + self.triplanes.field.density_bias)


def textbook_field(triplanes: Any, points: Tensor) -> tuple[Tensor, Tensor]:
    """Density ``[N]`` and colour ``[N, 3]`` of a single-object `Triplanes` at model-frame points ``[N, 3]``."""
    field = TextbookField(triplanes)
    raw, colour = field.raw_density_and_colour(points)
    inside = (points.abs() <= 1).all(-1)
    return torch.where(inside, field.activate(raw), torch.zeros_like(raw)), colour


def _raw_density_and_colour(triplanes: Any, points: Tensor) -> tuple[Tensor, Tensor]:
    field, planes = triplanes.field, triplanes.planes[0]
    x, y, z = points.unbind(-1)
    mode = field.padding
    features = []
    for plane, (column, row) in zip(planes, ((x, y), (x, z), (z, y)), strict=True):
        grid = torch.stack([column, row], -1)[None, :, None]
        features.append(F.grid_sample(plane[None], grid, "bilinear", mode, align_corners=False)[0, :, :, 0].T)
    if triplanes.source_features is not None:
        uv, _ = triplanes.source_cameras[0].project(points)
        grid = (uv * 2 - 1)[None, :, None]
        seen = F.grid_sample(triplanes.source_features[:1], grid, "bilinear", "zeros", align_corners=False)
        features.append(seen[0, :, :, 0].T)
    if field.depth_frequencies:
        camera = triplanes.source_cameras[0]
        offset = (camera.centers - points) @ camera.poses[:, 2] - camera.centers.norm()
        octaves = [2**k * torch.pi / 2 * offset for k in range(field.depth_frequencies)]
        features.append(torch.stack([offset, *map(torch.sin, octaves), *map(torch.cos, octaves)], -1))
    raw = field.layers(torch.cat(features, -1))
    raw_density = raw[:, 0] + field.sphere_slope * (field.sphere_radius - points.norm(dim=-1))
    return raw_density, torch.sigmoid(raw[:, 1:]) * 1.002 - 0.001


def textbook_render(triplanes: Any, origins: Tensor, directions: Tensor, coarse: int, fine: int) -> RayColours:
    """Render rays ``[R, 3]`` of a single-object `Triplanes` in its model frame, midpoint samples.

    Returns:
        Premultiplied colour ``[R, 3]``, opacity ``[R]`` and expected distance ``[R]`` (0 where empty).
    """
    near, far = box_interval(origins, directions)

    def evaluate(depths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        points = origins[:, None] + directions[:, None] * depths[..., None]
        density, colour = textbook_field(triplanes, points.reshape(-1, 3))
        density, colour = density.reshape(depths.shape), colour.reshape(*depths.shape, 3)
        lengths = interval_edges(depths, near, far).diff(dim=-1)
        alpha = 1 - torch.exp(-density * lengths)
        clear = torch.cumprod(torch.cat([torch.ones_like(alpha[:, :1]), 1 - alpha], -1), -1)[:, :-1]
        return alpha * clear, colour, depths

    depths = coarse_depths(near, far, torch.full((coarse,), 0.5, device=near.device))
    weights, colour, depths = evaluate(depths)
    if fine:
        unit = (torch.arange(fine, device=near.device) + 0.5) / fine
        edges = interval_edges(depths, near, far)
        extra = importance_depths(edges, weights.detach(), unit)
        weights, colour, depths = evaluate(torch.cat([depths, extra], -1).sort(-1).values)
    opacity = weights.sum(-1)
    depth = (weights * depths).sum(-1) / opacity.clamp_min(1e-10)
    return RayColours((weights[..., None] * colour).sum(1), opacity, depth)
