import numpy as np
import pytest
import torch

from vfusion3d.errors import MeshError
from vfusion3d.rendering.isosurface import (
    EmptySurfaceError,
    extract_isosurface,
    vertex_normals,
)


def ball(radius: float = 0.6, centre=(0.0, 0.0, 0.0)):
    return lambda points: 10 * (radius - (points - torch.tensor(centre)).norm(dim=-1)) + 5


def test_a_ball_has_its_volume_radius_and_normals():
    mesh = extract_isosurface(ball(), 5.0, resolution=48)
    radius = np.linalg.norm(mesh.vertices, axis=1)
    assert np.abs(radius - 0.6).max() < 2e-3
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * 0.6**3, rel=0.01)  # positive: faces look outwards
    assert ((mesh.normals * mesh.vertices).sum(-1) / radius).min() > 0.98
    assert mesh.colours.shape == mesh.vertices.shape and mesh.colours.dtype == np.uint8


def test_axes_are_not_mixed():
    mesh = extract_isosurface(ball(0.2, (0.5, -0.2, 0.1)), 5.0, resolution=40)
    assert mesh.vertices.mean(0).tolist() == pytest.approx([0.5, -0.2, 0.1], abs=0.02)


def test_every_edge_belongs_to_two_faces_even_at_the_box():
    mesh = extract_isosurface(ball(1.3), 5.0, resolution=20)
    edges = np.sort(np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]]), axis=1)
    _, count = np.unique(edges, axis=0, return_counts=True)
    assert (count == 2).all()
    assert np.abs(mesh.vertices).max() <= 1
    assert mesh.volume > 7


def test_floaters_and_cavities_are_removed():
    def field(points):
        hollow = ball(0.6)(points).minimum(10 - ball(0.3)(points))
        return hollow.maximum(ball(0.08, (0.9, 0.9, 0.9))(points)).maximum(ball(0.25, (-0.8, -0.8, 0.0))(points))

    mesh = extract_isosurface(field, 5.0, resolution=64)
    distance = np.linalg.norm(mesh.vertices, axis=1)
    assert not (mesh.vertices > 0.7).all(1).any()  # the small ball
    assert distance.min() > 0.5  # the inner wall
    assert (np.linalg.norm(mesh.vertices - [-0.8, -0.8, 0.0], axis=1) < 0.3).any()  # the larger one stays
    assert mesh.faces.max() == len(mesh.vertices) - 1
    assert (np.linalg.norm(extract_isosurface(field, 5.0, 64, min_share=0.0).vertices - 0.9, axis=1) < 0.1).any()


def test_colours_are_those_of_the_vertices():
    mesh = extract_isosurface(ball(), 5.0, resolution=24, colours=lambda points: points * 0.5 + 0.5, chunk=500)
    assert np.abs(mesh.colours / 255 - np.clip(mesh.vertices * 0.5 + 0.5, 0, 1)).max() < 0.004


def test_nothing_above_the_threshold():
    with pytest.raises(EmptySurfaceError, match=r"stays under the threshold of 50 everywhere \(its maximum is 9\.85\)"):
        extract_isosurface(ball(), 50.0, resolution=16)


def test_not_finite():
    with pytest.raises(MeshError, match="NaN"):
        extract_isosurface(lambda points: points[:, 0] * torch.nan, 1.0, resolution=8)


def test_wrong_resolution():
    with pytest.raises(ValueError, match="`resolution`"):
        extract_isosurface(ball(), 5.0, resolution=1)


def test_normals_of_a_square():
    vertices = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [5, 5, 5]], dtype=np.float32)
    normals = vertex_normals(vertices, np.array([[0, 1, 2], [0, 2, 3]]))
    assert normals.tolist() == [[0, 0, 1]] * 5  # the unused vertex too: never NaN
