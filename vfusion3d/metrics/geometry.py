"""How near surfaces are: Chamfer distance, F-score and normal consistency of seeded samples, and their alignment.

Distances are to the nearest of finitely many samples: of equal surfaces that were sampled differently they are not 0
but about ``0.5 sqrt(area / samples)``. Numbers with different alignment, samples or threshold are different numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, product
from typing import Any, Literal, NamedTuple, Protocol, get_args

import numpy as np
import torch
from torch import Tensor

from vfusion3d.errors import MeshError
from vfusion3d.metrics.per_object import PerObjectMetric

Alignment = Literal["none", "scale", "similarity"]
SAMPLES = 10_000
"""Points on each surface."""
THRESHOLD = 0.05
"""Distance within which a point counts for the F-score, world units, of objects in the unit sphere."""
_COARSE, _FINE = 500, 5000  # points of each surface that starts are compared and the best are refined with
_STEPS, _LEFT, _REFINED = 20, 4, 100  # of the comparison, starts that are refined, and at most of that
_STILL = 1e-9  # relative improvement that ends the refinement


class HasSurface(Protocol):
    """Triangles: a `SurfaceMesh`, a `Mesh`, a ``trimesh.Trimesh`` or a `Surface`."""

    @property
    def vertices(self) -> np.ndarray:
        """``[V, 3]``, world units."""
        ...

    @property
    def faces(self) -> np.ndarray:
        """Vertex numbers, ``[F, 3]``."""
        ...


class Surface(NamedTuple):
    """Plain arrays as a surface."""

    vertices: np.ndarray
    """``[V, 3]``, world units."""
    faces: np.ndarray
    """Vertex numbers, ``[F, 3]``."""


class SurfaceSamples(NamedTuple):
    """Points on a surface."""

    points: np.ndarray
    """World units, float64, ``[N, 3]``."""
    normals: np.ndarray
    """Unit normals of the triangles they lie on, float64, ``[N, 3]``."""


class Similarity(NamedTuple):
    """The map ``x -> scale * rotation @ x + translation``."""

    scale: float
    rotation: np.ndarray
    """``[3, 3]``, without reflection."""
    translation: np.ndarray
    """``[3]``, world units."""

    def points(self, points: np.ndarray) -> np.ndarray:
        """Mapped points ``[N, 3]``."""
        return self.scale * points @ self.rotation.T + self.translation

    def inverse_points(self, points: np.ndarray) -> np.ndarray:
        """Points ``[N, 3]`` that map to those given."""
        return (points - self.translation) @ self.rotation / self.scale

    def mesh(self, mesh: HasSurface) -> Surface:
        """The mapped surface."""
        return Surface(self.points(np.asarray(mesh.vertices, np.float64)), np.asarray(mesh.faces))


def sample_surface(mesh: HasSurface, count: int = SAMPLES, seed: int = 0) -> SurfaceSamples:
    """Points spread evenly over a surface: triangles drawn by area, then a uniform point in each; the same each time.

    Args:
        mesh: The surface; inner walls count as any other.
        count: Points.
        seed: Of the draws.

    Raises:
        MeshError: if the mesh has no triangle with an area, or NaN or infinite vertices.
    """
    corners = _corners(mesh)
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    doubled = np.linalg.norm(across, axis=1)
    if not doubled.sum() > 0:
        raise MeshError("A mesh to be measured has no face with an area; leave the object out and count it as failed.")
    generator = np.random.default_rng(seed)
    along = np.cumsum(doubled)
    drawn = np.searchsorted(along, generator.random(count) * along[-1], side="right").clip(max=len(along) - 1)
    u, v = generator.random((2, count, 1))
    root = np.sqrt(u)
    a, b, c = corners[drawn].swapaxes(0, 1)
    points = (1 - root) * a + root * (1 - v) * b + root * v * c
    return SurfaceSamples(points, across[drawn] / doubled[drawn, None].clip(1e-300))


def _corners(mesh: HasSurface) -> np.ndarray:
    """Corners of the triangles, float64, ``[F, 3, 3]``."""
    vertices, faces = np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces)
    if faces.size == 0 or vertices.size == 0:
        raise MeshError("A mesh to be measured is empty; leave the object out and count it as failed.")
    corners = vertices[faces]
    if not np.isfinite(corners).all():
        raise MeshError("A mesh to be measured has NaN or infinite vertices.")
    return corners


class _Nearest(NamedTuple):
    """Distances from each of one's samples to the nearest of the other's, and the cosines of their normals."""

    distances: tuple[np.ndarray, np.ndarray]
    cosines: tuple[np.ndarray, np.ndarray]


def _nearest(prediction: SurfaceSamples, target: SurfaceSamples) -> _Nearest:
    from scipy.spatial import KDTree

    distances, cosines = [], []
    for one, other in ((prediction, target), (target, prediction)):
        distance, index = KDTree(other.points).query(one.points)
        distances.append(distance)
        cosines.append((one.normals * other.normals[index]).sum(-1))
    return _Nearest((distances[0], distances[1]), (cosines[0], cosines[1]))


def chamfer_distance(prediction: SurfaceSamples, target: SurfaceSamples) -> float:
    """Symmetric Chamfer distance, world units; 0 is best.

    ``(mean_p min_t |p - t| + mean_t min_p |p - t|) / 2`` over sampled points, so neither squared nor summed: other
    definitions give other numbers, the sum of both directions twice this one.
    """
    return _chamfer(_nearest(prediction, target))


def f_score(prediction: SurfaceSamples, target: SurfaceSamples, threshold: float = THRESHOLD) -> float:
    """F-score (Knapitsch et al. 2017) in [0, 1]; 1 is best.

    ``2 P R / (P + R)``, where the precision ``P`` is the share of predicted points within ``threshold`` (world units)
    of a true one, the recall ``R`` the share of true points within it of a predicted one; 0 where both are 0.
    """
    return _f_score(_nearest(prediction, target), threshold)


def normal_consistency(prediction: SurfaceSamples, target: SurfaceSamples) -> float:
    """Normal consistency (Mescheder et al. 2019) in [0, 1]; 1 is best, random directions have 0.5.

    ``(mean_p |n_p . n_t(p)| + mean_t |n_t . n_p(t)|) / 2`` with the normal of the nearest sample on the other surface;
    without sign, so that the order of a face's vertices does not matter.
    """
    return _consistency(_nearest(prediction, target))


def _chamfer(near: _Nearest) -> float:
    return float(sum(distance.mean() for distance in near.distances) / 2)


def _f_score(near: _Nearest, threshold: float) -> float:
    if not threshold > 0:
        raise ValueError(f"Argument `threshold` must be positive, but got {threshold}.")
    precision, recall = (float((distance <= threshold).mean()) for distance in near.distances)
    return 2 * precision * recall / max(precision + recall, 1e-12)


def _consistency(near: _Nearest) -> float:
    return float(sum(np.abs(cosine).mean() for cosine in near.cosines) / 2)


def align(prediction: HasSurface, target: HasSurface, mode: Alignment, seed: int = 0) -> Similarity:
    """The map that lays a predicted surface onto the true one, as far as a protocol allows; the same each time.

    Args:
        prediction, target: World units.
        mode:
            - ``none``: nothing is allowed;
            - ``scale``: the centres of the bounding boxes are laid together and their diagonals made equal, for methods
              whose scale and place are free; the orientation has to be right;
            - ``similarity``: scale, rotation and translation of the least symmetric squared distance between samples,
              by iterated closest points (Besl and McKay 1992, with pairs from both sides and the scale of Umeyama
              1991) from the 24 rotations of a cube, each also turned by 45 degrees about +Z. What is wrongly turned
              is so forgiven.
        seed: Of the samples.

    Raises:
        MeshError: as `sample_surface`.
        ValueError: if there is no such mode.
    """
    if mode not in get_args(Alignment):
        raise ValueError(f"Argument `mode` must be one of {get_args(Alignment)}, but got {mode!r}.")
    if mode == "none":
        return Similarity(1.0, np.eye(3), np.zeros(3))
    if mode == "scale":
        boxes = [
            (points.min(0), points.max(0)) for points in (_corners(m).reshape(-1, 3) for m in (prediction, target))
        ]
        (centre, size), (wanted, wanted_size) = ((low + high, np.linalg.norm(high - low)) for low, high in boxes)
        if not min(size, wanted_size) > 0:
            raise MeshError("A mesh to be aligned has no extent.")
        scale = float(wanted_size / size)
        return Similarity(scale, np.eye(3), (wanted - scale * centre) / 2)
    moved, fixed = (sample_surface(mesh, _FINE, seed + k).points for k, mesh in enumerate((prediction, target)))
    centre, wanted = moved.mean(0), fixed.mean(0)
    scale = float(((fixed - wanted).std() / (moved - centre).std()).item())
    found = []
    for rotation in _starts():
        start = Similarity(scale, rotation, wanted - scale * rotation @ centre)
        found.append(_closest_points(moved[:_COARSE], fixed[:_COARSE], start, _STEPS))
    found.sort(key=lambda pair: pair[0])
    refined = [_closest_points(moved, fixed, start, _REFINED) for _, start in found[:_LEFT]]
    return min(refined, key=lambda pair: pair[0])[1]


def _starts() -> list[np.ndarray]:
    """The rotations of a cube, and these after an eighth of a turn about +Z."""
    cube = [
        np.eye(3)[list(order)] * signs
        for order in permutations(range(3))
        for signs in product((-1.0, 1.0), repeat=3)
        if np.linalg.det(np.eye(3)[list(order)] * signs) > 0
    ]
    half = 0.5**0.5
    eighth = np.array([[half, -half, 0.0], [half, half, 0.0], [0.0, 0.0, 1.0]])
    return cube + [eighth @ rotation for rotation in cube]


def _closest_points(moved: np.ndarray, fixed: np.ndarray, start: Similarity, steps: int) -> tuple[float, Similarity]:
    """Iterated closest points; the mean squared distance, relative to the size of what is fixed, and the map."""
    from scipy.spatial import KDTree

    tree_moved, tree_fixed = KDTree(moved), KDTree(fixed)
    current, error = start, np.inf
    for _ in range(steps):
        forth, near_fixed = tree_fixed.query(current.points(moved))
        back, near_moved = tree_moved.query(current.inverse_points(fixed))
        before, error = error, float((np.square(forth).mean() + np.square(back * current.scale).mean()) / 2)
        if error >= before * (1 - _STILL):
            break
        current = _umeyama(np.concatenate([moved, moved[near_moved]]), np.concatenate([fixed[near_fixed], fixed]))
    return error, current


def _umeyama(moved: np.ndarray, fixed: np.ndarray) -> Similarity:
    """The similarity of least squared distance between paired points ``[N, 3]`` (Umeyama 1991)."""
    centre, wanted = moved.mean(0), fixed.mean(0)
    one, other = moved - centre, fixed - wanted
    u, values, v = np.linalg.svd(other.T @ one)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ v))])
    rotation = u * signs @ v
    scale = float((values * signs).sum() / np.square(one).sum())
    return Similarity(scale, rotation, wanted - scale * rotation @ centre)


def surface_figures(
    prediction: HasSurface,
    target: HasSurface,
    alignment: Alignment = "none",
    threshold: float = THRESHOLD,
    samples: int = SAMPLES,
    seed: int = 0,
) -> dict[str, float]:
    """Figures of a predicted surface.

    Args:
        prediction, target: World units.
        alignment: As ``mode`` of `align`.
        threshold: Of `f_score`, world units of the target.
        samples: On each surface.
        seed: Of the samples of both, so that a surface has no distance from itself.

    Returns:
        ``chamfer`` (`chamfer_distance`), ``f_score``, ``normal_consistency``, and ``scale``, by which the prediction
        was enlarged.

    Raises:
        MeshError: as `sample_surface`.
        ValueError: if there is no such alignment, or the threshold is not positive.
    """
    found = align(prediction, target, alignment, seed)
    near = _nearest(sample_surface(found.mesh(prediction), samples, seed), sample_surface(target, samples, seed))
    return {
        "chamfer": _chamfer(near),
        "f_score": _f_score(near, threshold),
        "normal_consistency": _consistency(near),
        "scale": found.scale,
    }


class SurfaceMetrics(PerObjectMetric):
    """Means of `surface_figures` over objects, each counted once (`PerObjectMetric`).

    An object without a mesh raises: whether failures are left out or scored is the protocol's to say.

    Args:
        alignment, threshold, samples, seed: As in `surface_figures`.
        settings: As of every `torchmetrics.Metric`.
    """

    NAMES = ("chamfer", "f_score", "normal_consistency", "scale")

    def __init__(
        self,
        alignment: Alignment = "none",
        threshold: float = THRESHOLD,
        samples: int = SAMPLES,
        seed: int = 0,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.alignment, self.threshold, self.samples, self.seed = alignment, threshold, samples, seed

    def update(self, prediction: Sequence[HasSurface], target: Sequence[HasSurface], objects: Tensor) -> None:
        """Score B surfaces; ``objects`` int64, ``[B]``."""
        rows = [
            surface_figures(*pair, self.alignment, self.threshold, self.samples, self.seed)
            for pair in zip(prediction, target, strict=True)
        ]
        figures = torch.tensor([[row[name] for name in self.NAMES] for row in rows], device=objects.device)
        self.record(objects, dict(zip(self.NAMES, figures.unbind(-1), strict=True)))
