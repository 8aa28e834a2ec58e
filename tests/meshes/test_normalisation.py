from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from vfusion3d.meshes.mesh import Mesh
from vfusion3d.meshes.normalisation import normalise


def test_box_centre_goes_to_the_origin_and_the_farthest_vertex_to_distance_one(box: Callable) -> None:
    mesh = Mesh((box((3, -2, 7), (0.2, 0.4, 0.4)), box((9, -2, 7), (0.1, 0.1, 0.1))))
    unit, (centre, scale) = normalise(mesh)
    vertices = unit.vertices
    np.testing.assert_allclose(vertices.min(0) + vertices.max(0), 0, atol=1e-6)
    assert np.linalg.norm(vertices, axis=1).max() == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose((mesh.vertices - centre) * scale, vertices, atol=1e-6)
    assert centre == pytest.approx((5.95, -2.0, 7.0))


def test_a_tiny_mesh_far_away_keeps_its_shape(box: Callable) -> None:
    mesh = Mesh((box((100, 100, 100), (0.01, 0.01, 0.01)),))
    unit, _ = normalise(mesh)
    assert np.linalg.norm(unit.vertices, axis=1).min() == pytest.approx(1.0, abs=2e-3)
