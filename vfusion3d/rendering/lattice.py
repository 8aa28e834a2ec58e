"""A field's values on the lattice that an isosurface is drawn from: everywhere, or only near the surface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

Progress = Callable[[int, int], None]
"""Called with (parts done, parts in all)."""

BLOCK = 4
"""Lattice points a side of the blocks that are refined or not."""


class Lattice(Protocol):
    """A field on a cubic lattice."""

    resolution: int
    """Lattice points a side."""
    device: torch.device
    """Where indices are wanted."""

    def at(self, index: Tensor) -> Tensor:
        """Values ``[N]`` at flat indices ``[N]``, counted by x, y, z with z fastest."""

    def everywhere(self, progress: Progress | None = None) -> Tensor:
        """All values, float32 on the CPU, ``[resolution] * 3`` indexed by (x, y, z)."""


class PointLattice:
    """A field of points on the lattice over ``[-bound, bound]^3``.

    Args:
        field: Maps points ``[N, 3]`` to values ``[N]``.
        resolution: Lattice points a side.
        bound: Half the side of the cube, world units.
        chunk: Points per call of the field.
        device: Where points are made.
    """

    def __init__(
        self,
        field: Callable[[Tensor], Tensor],
        resolution: int,
        bound: float = 1.0,
        chunk: int = 65536,
        device: torch.device | str = "cpu",
    ) -> None:
        self.field, self.resolution, self.chunk = field, resolution, chunk
        self.axis = torch.linspace(-bound, bound, resolution, device=device)
        self.device = self.axis.device

    def at(self, index: Tensor) -> Tensor:
        """As `Lattice.at`."""
        size = self.resolution
        parts = []
        for part in index.split(self.chunk):
            x, y, z = part // size**2, part // size % size, part % size
            parts.append(self.field(torch.stack([self.axis[x], self.axis[y], self.axis[z]], dim=-1)))
        return torch.cat(parts)

    @torch.no_grad()
    def everywhere(self, progress: Progress | None = None) -> Tensor:
        """As `Lattice.everywhere`."""
        total = self.resolution**3
        result = torch.empty(total)
        parts = -(-total // self.chunk)
        for part in range(parts):
            start, end = part * self.chunk, min((part + 1) * self.chunk, total)
            result[start:end] = self.at(torch.arange(start, end, device=self.device)).float().cpu()
            if progress is not None:
                progress(part + 1, parts)
        return result.view([self.resolution] * 3)


@torch.no_grad()
def near_surface(lattice: Lattice, threshold: float, progress: Progress | None = None) -> Tensor:
    """As `Lattice.everywhere`, but evaluated only around the surface; elsewhere stands a value of the same side.

    Every fourth point is evaluated first. Blocks of 4 x 4 x 4 points whose corners lie on both sides of the threshold,
    and their neighbours, are evaluated in full, then neighbours that the surface turns out to reach, until there are
    none. What is found of the surface is exact; a part that no block on the way to it shows, such as a separate piece
    thinner than a block, is not found.
    """
    resolution, device = lattice.resolution, lattice.device
    blocks = -(-resolution // BLOCK)
    last = resolution - 1
    corners = (torch.arange(blocks + 1, device=device) * BLOCK).clamp(max=last)
    coarse = lattice.at(_flat(corners, corners, corners, resolution)).view([blocks + 1] * 3)
    # A value for each block while it is not evaluated: that of its first corner.
    first = coarse[:-1, :-1, :-1].clone()
    solid = first > threshold
    share = torch.nn.functional.avg_pool3d((coarse > threshold).float()[None, None], 2, stride=1)[0, 0]
    wanted = _dilated((share > 0) & (share < 1))
    done = torch.zeros_like(wanted)
    inner = torch.arange(BLOCK, device=device)
    result = first[:, None, :, None, :, None].repeat(1, BLOCK, 1, BLOCK, 1, BLOCK)
    finished = 0
    while bool(wanted.any()):
        place = wanted.nonzero()
        x, y, z = ((place[:, k, None] * BLOCK + inner).clamp(max=last) for k in range(3))
        index = ((x[:, :, None, None] * resolution + y[:, None, :, None]) * resolution) + z[:, None, None, :]
        fine = lattice.at(index.flatten()).view(-1, BLOCK, BLOCK, BLOCK)
        result[place[:, 0], :, place[:, 1], :, place[:, 2], :] = fine
        done |= wanted
        wanted = torch.zeros_like(wanted)
        inside = fine > threshold
        for axis in range(3):
            for side, step in ((0, -1), (BLOCK - 1, 1)):
                face = inside.select(axis + 1, side).flatten(1)
                neighbour = place.clone()
                neighbour[:, axis] += step
                exists = (neighbour[:, axis] >= 0) & (neighbour[:, axis] < blocks)
                face, (a, b, c) = face[exists], neighbour[exists].T
                wanted[a, b, c] |= (face != solid[a, b, c][:, None]).any(1)
        wanted &= ~done
        finished += len(place)
        if progress is not None:
            progress(finished, finished + int(wanted.sum()))
    size = blocks * BLOCK
    return result.view(size, size, size)[:resolution, :resolution, :resolution].float().cpu()


def _flat(x: Tensor, y: Tensor, z: Tensor, resolution: int) -> Tensor:
    return ((x[:, None, None] * resolution + y[:, None]) * resolution + z).flatten()


def _dilated(mask: Tensor) -> Tensor:
    """A mask ``[n, n, n]`` and the 26 neighbours of what is set."""
    return torch.nn.functional.max_pool3d(mask.float()[None, None], 3, stride=1, padding=1)[0, 0] > 0
