from __future__ import annotations

import pytest
import torch

from vfusion3d import ReconstructorConfig
from vfusion3d.models.field import ObjectField, TriplaneField
from vfusion3d.models.plane_lattice import PlaneLattice
from vfusion3d.rendering.lattice import PointLattice


@pytest.mark.parametrize("slope", [0.0, 8.0])
@pytest.mark.parametrize("padding", ["zeros", "border"])
@torch.no_grad()
def test_the_lattice_has_the_points_values(plain_field, slope, padding):
    field = plain_field(slope, padding)
    for resolution in (2, 19, 60):
        lattice = PlaneLattice(field, resolution)
        whole = PointLattice(field.density, resolution).everywhere()
        told = []
        torch.testing.assert_close(
            lattice.everywhere(lambda *numbers, told=told: told.append(numbers)), whole, atol=1e-4, rtol=1e-4
        )
        index = torch.randperm(resolution**3)[:500]
        torch.testing.assert_close(lattice.at(index), whole.flatten()[index], atol=1e-4, rtol=1e-4)
        assert told[-1] == (resolution, resolution)


def test_other_features_have_no_fast_lattice(plain_field):
    config = ReconstructorConfig.preset("tiny", pixel_aligned_channels=0)
    assert not ObjectField(TriplaneField(config), torch.randn(3, 8, 8, 8)).planar
    assert plain_field().planar
