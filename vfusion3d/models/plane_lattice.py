"""One object's density on the lattice that its mesh is drawn from."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vfusion3d.models.field import CACHED_POINTS, Decoder, ObjectField
from vfusion3d.models.texels import TexelSum, texel_weights
from vfusion3d.rendering.lattice import Progress

SLAB_POINTS = 2048
"""Points evaluated at once on a processor: fewer than `CACHED_POINTS`, since a part of a resampled plane stays too."""


class PlaneLattice:
    """One object's density on the lattice over the cube ``[-1, 1]^3`` (the `Lattice` protocol), without gradients.

    On a lattice the planes are read at the same places again and again: they are resampled once, and a point's first
    activations are the sum of one row of each. Exact but for the order of sums.

    Args:
        field: The object; its features are those of the three planes alone.
        resolution: Lattice points a side.
    """

    def __init__(self, field: ObjectField, resolution: int) -> None:
        self.field, self.resolution = field, resolution
        self.device = field.table.device
        self.axis = torch.linspace(-1, 1, resolution, device=self.device)
        unit = (self.axis + 1) / 2
        place = (unit.repeat(resolution), unit.repeat_interleave(resolution))  # columns vary fastest
        tables = field.table.detach().split([height * width for height, width in field.shapes])
        with torch.no_grad():
            maps = [
                TexelSum.apply(table, *texel_weights([place], [shape]))
                for table, shape in zip(tables, field.shapes, strict=True)
            ]
        self.table = torch.cat(maps)
        yx, zx, self.yz = (rows.view(resolution, resolution, -1) for rows in maps)
        self.by_x = (yx.transpose(0, 1), zx.transpose(0, 1))  # [x, y] and [x, z]

    @torch.no_grad()
    def at(self, index: Tensor) -> Tensor:
        """As `Lattice.at`."""
        size, result = self.resolution, self.axis.new_empty(len(index))
        decoder = Decoder(self.field.field, 1)
        for part, place in zip(index.int().split(CACHED_POINTS), result.split(CACHED_POINTS), strict=True):
            z, rest = part % size, part // size
            x, y = rest // size, rest % size
            rows = torch.stack([y * size + x, z * size + (x + size**2), y * size + (z + 2 * size**2)], -1)
            hidden = F.embedding_bag(rows, self.table, mode="sum")
            place.copy_(self._density(decoder(hidden)[0], x, y, z))
        return result

    @torch.no_grad()
    def everywhere(self, progress: Progress | None = None) -> Tensor:
        """As `Lattice.everywhere`."""
        size, width = self.resolution, self.table.shape[1]
        count = max(1, SLAB_POINTS // size) if self.device.type == "cpu" else size
        result = torch.empty(size, size, size)
        memory = self.table.new_empty(count, size, width)
        decoder = Decoder(self.field.field, 1)
        every = torch.arange(size, device=self.device)
        for start in range(0, size, count):
            rows = slice(start, min(start + count, size))
            block = self.yz[rows].clone()  # stays in the cache while x runs
            slab = self.axis.new_empty(size, len(block), size)
            for x in range(size):
                hidden = torch.add(block, self.by_x[1][x], out=memory[: len(block)])
                hidden = hidden.add_(self.by_x[0][x, rows, None]).view(-1, width)
                slab[x] = decoder(hidden).view(-1, size)
            result[:, rows] = self._density(slab, every[:, None, None], every[rows, None], every).cpu()
            if progress is not None:
                progress(rows.stop, size)
        return result

    def _density(self, raw: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Density from raw density at lattice indices that broadcast to its shape."""
        if self.field.field.sphere_slope:
            places = torch.broadcast_tensors(self.axis[x], self.axis[y], self.axis[z])
            raw = self.field.shaped(raw, torch.stack(places, -1))
        return self.field.activate(raw)
