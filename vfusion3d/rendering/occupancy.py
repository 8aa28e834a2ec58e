"""Skipping empty space: a coarse grid remembers where a field is dense, and only there is it evaluated.

An approximation: density below a threshold counts as none, and structures thinner than a cell that no corner
sees are lost. Rendering without a grid stays exact.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vfusion3d.rendering.volume import Field


class OccupancyGrid:
    """Which cells of the cube ``[-1, 1]^3`` may hold something: a dense corner, or a neighbour that has one.

    Args:
        field: The object.
        resolution: Cells per axis.
        threshold: Density per world unit that counts.
        chunk: Points evaluated at once.
        device: Where the field is.
    """

    def __init__(
        self,
        field: Field,
        resolution: int = 64,
        threshold: float = 0.02,
        chunk: int = 65536,
        device: torch.device | str = "cpu",
    ) -> None:
        self.field, self.resolution = field, resolution
        with torch.no_grad():
            axis = torch.linspace(-1, 1, resolution + 1, device=device)
            corners = torch.cartesian_prod(axis, axis, axis)
            density = torch.cat([field.density(part) for part in corners.split(chunk)])
            grid = density.view(1, 1, *[resolution + 1] * 3)
            cells = F.max_pool3d(grid, 2, stride=1)
            self.cells = (F.max_pool3d(cells, 3, stride=1, padding=1) > threshold).flatten()

    def occupied(self, points: Tensor) -> Tensor:
        """Whether points ``[..., 3]`` lie in a cell that may hold something, boolean ``[...]``."""
        cell = ((points + 1) * (self.resolution / 2)).long().clamp_(0, self.resolution - 1)
        index = (cell[..., 0] * self.resolution + cell[..., 1]) * self.resolution + cell[..., 2]
        return self.cells[index]

    def rays_that_meet(self, origins: Tensor, directions: Tensor, near: Tensor, far: Tensor) -> Tensor:
        """Which rays ``[R, 3]`` pass an occupied cell between near and far ``[R]``, boolean ``[R]``.

        Looks every cell width along the longest possible path, so a corner cut by less than a cell may be missed.
        """
        steps = int(self.resolution * 3**0.5) + 1
        fraction = (torch.arange(steps, device=near.device) + 0.5) / steps
        met = torch.zeros_like(near, dtype=torch.bool)
        for index in torch.arange(len(near), device=near.device).split(4096):
            depths = near[index, None] + (far - near)[index, None] * fraction
            points = origins[index, None] + directions[index, None] * depths[..., None]
            met[index] = self.occupied(points).any(-1)
        return met

    def density(self, points: Tensor) -> Tensor:
        """Density ``[N]`` of points ``[N, 3]``; 0 in empty cells."""
        index = self.occupied(points).nonzero()[:, 0]
        return points.new_zeros(len(points)).index_copy(0, index, self.field.density(points[index]))

    def density_and_colour(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Density ``[N]`` and colour ``[N, 3]`` of points ``[N, 3]``; 0 in empty cells."""
        index = self.occupied(points).nonzero()[:, 0]
        density, colour = self.field.density_and_colour(points[index])
        empty = points.new_zeros(len(points))
        return empty.index_copy(0, index, density), torch.zeros_like(points).index_copy(0, index, colour)
