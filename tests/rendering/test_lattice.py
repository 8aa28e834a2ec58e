from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from vfusion3d.rendering.lattice import PointLattice, near_surface


def ball(points: Tensor) -> Tensor:
    return 10 * (0.6 - points.norm(dim=-1)) + 5


def twisted(points: Tensor) -> Tensor:
    """A bent tube and a plate that reaches the box: thin, connected, no symmetry."""
    x, y, z = points.unbind(-1)
    tube = 0.12 - ((x - 0.5 * torch.sin(3 * z)) ** 2 + (y - 0.4 * torch.cos(2 * z)) ** 2).sqrt()
    plate = 0.07 - (z + 0.3 * x).abs()
    return 10 * torch.maximum(tube, plate) + 5


def test_chunks_do_not_change_the_lattice_and_progress_is_told():
    told = []
    whole = PointLattice(ball, 17).everywhere()
    parts = PointLattice(ball, 17, chunk=100).everywhere(lambda done, total: told.append((done, total)))
    assert torch.equal(whole, parts)
    assert told == [(k + 1, 50) for k in range(50)]
    axis = np.linspace(-1, 1, 17)
    assert float(whole[3, 8, 14]) == pytest.approx(10 * (0.6 - np.linalg.norm(axis[[3, 8, 14]])) + 5, abs=1e-4)


@pytest.mark.parametrize("field", [ball, twisted])
@pytest.mark.parametrize("resolution", [2, 13, 48, 50])
def test_the_surface_is_the_same_with_fewer_evaluations(field, resolution):
    whole = PointLattice(field, resolution).everywhere()
    count = 0

    def counted(points: Tensor) -> Tensor:
        nonlocal count
        count += len(points)
        return field(points)

    told = []
    near = near_surface(PointLattice(counted, resolution, chunk=999), 5.0, lambda *numbers: told.append(numbers))
    assert near.shape == whole.shape and torch.equal(near > 5, whole > 5)
    for axis in range(3):  # both ends of every edge that the surface cuts have their own values
        cut = (whole > 5).diff(dim=axis)
        for start in (0, 1):
            ends = [lattice.narrow(axis, start, resolution - 1) for lattice in (near, whole)]
            assert torch.equal(ends[0][cut], ends[1][cut])
    if resolution == 50:
        assert count < 0.6 * resolution**3
        assert told[-1][0] == told[-1][1] > 0


def test_a_side_reached_through_blocks_is_found():
    """A wire thinner than a block, of which only one end is thick enough for the coarse points to see."""

    def wire(points: Tensor) -> Tensor:
        x, y, z = points.unbind(-1)
        thin = 0.03 - torch.maximum((y - 0.013).abs(), (z + 0.027).abs())
        return 10 * torch.maximum(
            torch.minimum(thin, 0.9 - x.abs()), 0.2 - (points - torch.tensor([0.8, 0, 0])).norm(dim=-1)
        )

    lattice = PointLattice(wire, 100)
    assert torch.equal(near_surface(lattice, 0.0) > 0, lattice.everywhere() > 0)


def test_nothing_there():
    empty = near_surface(PointLattice(lambda points: points[:, 0] * 0, 20), 1.0)
    assert empty.shape == (20, 20, 20) and not empty.any()
