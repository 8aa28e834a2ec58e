"""Skipping empty space: a coarse grid remembers where a field is dense, and only there is it evaluated.

An approximation: density below a threshold counts as none, and structures thinner than a cell that no centre
sees are lost. Rendering without a grid stays exact.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vfusion3d.rendering.volume import Field


class OccupancyGrid:
    """Which cells of the cube ``[-1, 1]^3`` may hold something: a dense centre, or a neighbour that has one.

    Args:
        field: The object.
        resolution: Cells per axis, a multiple of 4.
        threshold: Density per world unit that counts.
        chunk: Points evaluated at once.
        device: Where the field is.

    Raises:
        ValueError: naming the argument.
    """

    def __init__(
        self,
        field: Field,
        resolution: int = 64,
        threshold: float = 0.05,
        chunk: int = 65536,
        device: torch.device | str = "cpu",
    ) -> None:
        if resolution < 4 or resolution % 4:
            raise ValueError(f"Argument `resolution` must be a multiple of 4, but got {resolution}.")
        self.field, self.resolution = field, resolution
        with torch.no_grad():
            # At the centres of cells, which are those of the released models' texels, where features are extreme.
            axis = (torch.arange(resolution, device=device) + 0.5) * (2 / resolution) - 1
            centres = torch.cartesian_prod(axis, axis, axis)
            density = torch.cat([field.density(part) for part in centres.split(chunk)])
            cells = F.max_pool3d(density.view(1, 1, *[resolution] * 3), 3, stride=1, padding=1) > threshold
            blocks = F.max_pool3d(cells.float(), 4) > 0
            # An empty margin catches what rounding puts outside.
            self.cells, self.blocks = (F.pad(level[0, 0], (1, 1) * 3).flatten() for level in (cells, blocks))

    @property
    def share(self) -> float:
        """Share of the cells that may hold something."""
        return float(self.cells.float().sum()) / self.resolution**3

    def occupied(self, points: Tensor) -> Tensor:
        """Whether points ``[..., 3]`` of the cube lie in a cell that may hold something, boolean ``[...]``."""
        x, y, z = ((points + 1) * (self.resolution / 2) + 1).unbind(-1)
        return self._look_up(self.cells, self.resolution, x, y, z)

    def rays_that_meet(self, origins: Tensor, directions: Tensor, near: Tensor, far: Tensor) -> Tensor:
        """Which rays ``[R, 3]`` pass an occupied cell between near and far ``[R]``, boolean ``[R]``.

        Looks every half block of four cells first, then every cell where that found something; a corner cut by less
        than that may be missed.
        """
        met = torch.ones_like(near, dtype=torch.bool)
        for cells, resolution, density in (
            (self.blocks, self.resolution // 4, 2.0),
            (self.cells, self.resolution, 1.0),
        ):
            steps = int(resolution * 3**0.5 * density) + 1
            fraction = (torch.arange(steps, device=near.device) + 0.5) / steps
            start, move = (origins + 1) * (resolution / 2) + 1, directions * (resolution / 2)
            for rays in met.nonzero()[:, 0].split(4096):
                depths = near[rays, None] + (far - near)[rays, None] * fraction
                places = (torch.addcmul(start[rays, k, None], move[rays, k, None], depths) for k in range(3))
                met[rays] = self._look_up(cells, resolution, *places).any(-1)
        return met

    @staticmethod
    def _look_up(cells: Tensor, resolution: int, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Cells of a grid with a margin at positions in units of its cells (floats are exact up to 256 cells)."""
        side, last = resolution + 2, resolution + 1
        x, y, z = (place.floor().clamp(0, last) for place in (x, y, z))
        return cells[torch.add(z, torch.add(y, x, alpha=side), alpha=side).long()]

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
