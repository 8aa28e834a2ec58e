from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

from vfusion3d.errors import MeshError
from vfusion3d.meshes.mesh import Mesh, MeshPart
from vfusion3d.metrics import (
    Similarity,
    Surface,
    SurfaceMetrics,
    SurfaceSamples,
    align,
    chamfer_distance,
    f_score,
    normal_consistency,
    sample_surface,
    surface_figures,
)


@pytest.fixture(scope="module")
def thing() -> Surface:
    """No rotation or reflection maps it onto itself."""
    pieces = [
        trimesh.creation.box((1, 0.6, 0.3)),
        trimesh.creation.box((0.2, 0.2, 0.8)),
        trimesh.creation.icosphere(2, 0.2),
    ]
    pieces[1].apply_translation((0.4, 0.15, 0.5))
    pieces[2].apply_translation((-0.3, -0.2, 0.3))
    whole = trimesh.util.concatenate(pieces)
    return Surface(np.asarray(whole.vertices), np.asarray(whole.faces))


def turn(seed: int, scale: float = 1.0) -> Similarity:
    shift = np.random.default_rng(seed).normal(size=3)
    return Similarity(scale, Rotation.random(random_state=seed).as_matrix(), shift)


def noise(seed: int, count: int) -> SurfaceSamples:
    points, normals = np.random.default_rng(seed).normal(size=(2, count, 3))
    return SurfaceSamples(points, normals / np.linalg.norm(normals, axis=1, keepdims=True))


# -- samples -----------------------------------------------------------------------------------------------------
def test_samples_lie_on_the_surface_and_are_even():
    big, small = trimesh.creation.box((2, 2, 2)), trimesh.creation.box((1, 1, 1))
    small.apply_translation((5, 0, 0))
    both = trimesh.util.concatenate([big, small.subdivide()])  # more triangles, less area
    points, normals = sample_surface(both, 100_000)
    on_small = points[:, 0] > 3
    assert on_small.mean() == pytest.approx(1 / 5, abs=0.01)
    offset = points[~on_small]
    assert np.abs(offset).max(1) == pytest.approx(1)
    assert (offset * normals[~on_small]).sum(1) == pytest.approx(1)
    share = np.histogramdd(offset[offset[:, 2] > 0.999][:, :2], bins=2)[0]
    assert share / share.sum() == pytest.approx(0.25, abs=0.015)  # uniform in a face
    again = sample_surface(both, 100_000)
    assert np.array_equal(points, again.points) and not np.array_equal(points, sample_surface(both, 100_000, 1).points)


def test_meshes_of_all_kinds(thing):
    half = len(thing.faces) // 2
    parts = []
    for faces in (thing.faces[:half], thing.faces[half:]):
        used, faces = np.unique(faces, return_inverse=True)
        vertices = thing.vertices[used]
        colours = np.zeros((len(used), 4), np.uint8)
        parts.append(MeshPart(vertices, faces.reshape(-1, 3), np.zeros_like(vertices), colours))
    expected = sample_surface(thing, 100)
    for mesh in (Mesh(tuple(parts)), trimesh.Trimesh(*thing, process=False)):
        np.testing.assert_allclose(sample_surface(mesh, 100).points, expected.points)


@pytest.mark.parametrize(
    ("mesh", "said"),
    [
        (Surface(np.zeros((0, 3)), np.zeros((0, 3), int)), "is empty; leave the object out"),
        (Surface(np.zeros((3, 3)), np.array([[0, 1, 2]])), "no face with an area"),
        (Surface(np.full((3, 3), np.nan), np.array([[0, 1, 2]])), "NaN or infinite vertices"),
    ],
)
def test_meshes_that_cannot_be_measured(mesh, said, thing):
    with pytest.raises(MeshError, match=said):
        surface_figures(mesh, thing)
    with pytest.raises(MeshError):
        align(thing, mesh, "scale")


# -- figures -----------------------------------------------------------------------------------------------------
def test_figures_are_those_of_brute_force():
    one, other = noise(0, 150), noise(1, 200)
    distances = np.linalg.norm(one.points[:, None] - other.points, axis=-1)
    forth, back = distances.min(1), distances.min(0)
    assert chamfer_distance(one, other) == pytest.approx((forth.mean() + back.mean()) / 2)
    precision, recall = (forth <= 0.4).mean(), (back <= 0.4).mean()
    assert f_score(one, other, 0.4) == pytest.approx(2 * precision * recall / (precision + recall))
    cosines = np.abs(one.normals @ other.normals.T)
    along = cosines[range(150), distances.argmin(1)].mean(), cosines[distances.argmin(0), range(200)].mean()
    assert normal_consistency(one, other) == pytest.approx(sum(along) / 2)
    for figure in (chamfer_distance, f_score, normal_consistency):
        assert figure(one, other) == pytest.approx(figure(other, one))


def test_far_apart_is_zero_not_undefined():
    one = noise(0, 20)
    assert f_score(one, SurfaceSamples(one.points + 100, one.normals)) == 0
    with pytest.raises(ValueError, match="`threshold` must be positive"):
        f_score(one, one, 0)


def test_a_surface_is_perfect_and_its_flipped_copy_is_not(thing):
    assert surface_figures(thing, thing) == {"chamfer": 0, "f_score": 1, "normal_consistency": 1, "scale": 1}
    flipped = surface_figures(Surface(thing.vertices[:, [0, 2, 1]] * (1, -1, 1), thing.faces), thing)
    assert flipped["chamfer"] > 0.05 and flipped["f_score"] < 0.6 and flipped["normal_consistency"] < 0.6


def test_other_samples_of_a_surface_are_as_near_as_their_spacing(thing):
    area = trimesh.Trimesh(*thing).area
    one, other = (sample_surface(thing, 4000, seed) for seed in (0, 1))
    assert chamfer_distance(one, other) == pytest.approx(0.5 * (area / 4000) ** 0.5, rel=0.1)
    assert normal_consistency(one, other) > 0.9  # but for its edges


def test_a_common_motion_changes_nothing(thing):
    other = Surface(thing.vertices * (1, 1.3, 1), thing.faces)
    expected = surface_figures(other, thing, samples=3000)
    moved = surface_figures(turn(3).mesh(other), turn(3).mesh(thing), samples=3000)
    assert moved == pytest.approx(expected, abs=1e-3)


# -- alignment ---------------------------------------------------------------------------------------------------
def test_similarity_undoes_a_similarity_and_none_does_not(thing):
    known = turn(4, scale=1.7)
    moved = known.mesh(thing)
    found = align(moved, thing, "similarity")
    assert found.scale * 1.7 == pytest.approx(1, abs=0.01)
    assert found.rotation @ known.rotation == pytest.approx(np.eye(3), abs=0.02)
    assert np.linalg.det(found.rotation) == pytest.approx(1)
    assert found.points(moved.vertices) == pytest.approx(thing.vertices, abs=0.02)
    assert found.inverse_points(found.points(thing.vertices)) == pytest.approx(thing.vertices)
    repeated = align(moved, thing, "similarity")
    assert np.array_equal(found.rotation, repeated.rotation) and found.scale == repeated.scale
    assert surface_figures(moved, thing, "none", samples=2000)["chamfer"] > 0.3


def test_similarity_does_not_reflect(thing):
    mirrored = Surface(thing.vertices * (-1, 1, 1), thing.faces)
    assert surface_figures(mirrored, thing, "similarity", samples=2000)["chamfer"] > 0.03


def test_scale_frees_scale_and_place_only(thing):
    moved = Similarity(3.0, np.eye(3), np.array([1.0, -2, 3])).mesh(thing)
    figures = surface_figures(moved, thing, "scale", samples=2000)
    assert figures == pytest.approx({"chamfer": 0, "f_score": 1, "normal_consistency": 1, "scale": 1 / 3}, abs=1e-9)
    turned = turn(0, 3.0).mesh(thing)
    assert surface_figures(turned, thing, "scale", samples=2000)["chamfer"] > 0.1
    with pytest.raises(ValueError, match=r"`mode` must be one of .*'similarity'.*, but got 'icp'"):
        align(thing, thing, "icp")


# -- metric ------------------------------------------------------------------------------------------------------
def test_each_object_counts_once(thing):
    stretched = Surface(thing.vertices * (1, 1.5, 1), thing.faces)
    metric = SurfaceMetrics(samples=500)
    metric.update([stretched, thing], [thing, thing], torch.tensor([4, 2]))
    metric.update([stretched], [thing], torch.tensor([4]))
    expected = surface_figures(stretched, thing, samples=500)
    values = {name: float(value) for name, value in metric.compute().items()}
    best = {"chamfer": 0, "f_score": 1, "normal_consistency": 1, "scale": 1}
    assert values == pytest.approx({name: (expected[name] + best[name]) / 2 for name in best}, rel=1e-5)
