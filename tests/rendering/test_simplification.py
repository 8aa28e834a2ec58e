import numpy as np
import pytest
import torch

from vfusion3d.rendering.isosurface import extract_isosurface
from vfusion3d.rendering.simplification import _at_places, simplify
from vfusion3d.rendering.topology import is_closed


def two_balls(points: torch.Tensor) -> torch.Tensor:
    """A large ball and a small one that touch the same lattice."""
    small = points - torch.tensor([0.0, 0.75, 0.0])
    return torch.maximum(0.6 - points.norm(dim=-1), 0.2 - small.norm(dim=-1))


@pytest.mark.parametrize("budget", [2000, 400])
def test_fewer_faces_of_the_same_shape_still_closed(budget):
    full = extract_isosurface(two_balls, 0.0, 40)
    vertices, faces = simplify(full.vertices, full.faces, budget)
    assert budget * 0.85 < len(faces) <= budget < len(full.faces)
    assert is_closed(faces) and faces.dtype == np.int32 and vertices.dtype == np.float32
    assert faces.max() + 1 == len(vertices) == len(np.unique(faces))
    surface = torch.from_numpy(vertices)
    assert two_balls(surface).abs().max() < 0.02
    corners = vertices[faces].astype(np.float64)
    volume = np.einsum("ij,ij->", np.cross(corners[:, 0], corners[:, 1]), corners[:, 2]) / 6
    assert volume == pytest.approx(full.volume, rel=0.02)


def test_few_faces_stay_as_they_are():
    full = extract_isosurface(two_balls, 0.0, 16)
    vertices, faces = simplify(full.vertices, full.faces, len(full.faces))
    assert vertices is full.vertices and faces is full.faces


def test_a_budget_too_small_to_stay_closed_is_passed(monkeypatch):
    full = extract_isosurface(two_balls, 0.0, 24)
    monkeypatch.setattr("vfusion3d.rendering.simplification.is_closed", lambda faces: len(faces) > 450)
    _, faces = simplify(full.vertices, full.faces, 300)
    assert 300 * 1.5 <= len(faces) <= 600


def test_short_edges_go_where_quadric_errors_tear_holes(monkeypatch):
    full = extract_isosurface(two_balls, 0.0, 40)
    monkeypatch.setattr("vfusion3d.rendering.simplification._collapse", lambda v, f, target: (v, f[1:]))
    vertices, faces = simplify(full.vertices, full.faces, 1000)
    assert 500 < len(faces) <= 1000 and is_closed(faces)
    assert two_balls(torch.from_numpy(vertices)).abs().max() < 0.02
    corners = vertices[faces].astype(np.float64)
    volume = np.einsum("ij,ij->", np.cross(corners[:, 0], corners[:, 1]), corners[:, 2]) / 6
    assert volume == pytest.approx(full.volume, rel=0.03)


def test_an_open_surface_is_left_alone():
    full = extract_isosurface(two_balls, 0.0, 16)
    vertices, faces = simplify(full.vertices, full.faces[: len(full.faces) // 2], 100)
    assert len(faces) == len(full.faces) // 2 and vertices is full.vertices


def test_vertices_at_one_place_are_one():
    """Two tetrahedra's worth of a pyramid whose base has an edge of no length."""
    places = np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0], [1, 0, 0], [0, 1, 0]], dtype=np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 4, 1], [4, 2, 1], [4, 3, 2]])
    vertices, welded = _at_places(places, faces)
    assert len(vertices) == 4 and len(welded) == 4 and is_closed(welded) and welded.dtype == np.int32


def test_no_budget():
    full = extract_isosurface(two_balls, 0.0, 16)
    with pytest.raises(ValueError, match="`budget` must be at least 4 faces, but got 3"):
        simplify(full.vertices, full.faces, 3)
