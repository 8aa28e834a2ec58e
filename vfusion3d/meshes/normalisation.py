"""Bringing a mesh into the unit sphere."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vfusion3d.meshes.mesh import Mesh


class Normalisation(NamedTuple):
    """The map from a file's world to the unit sphere: ``x -> (x - centre) * scale``."""

    centre: tuple[float, float, float]
    scale: float


def normalise(mesh: Mesh) -> tuple[Mesh, Normalisation]:
    """Centre a mesh's bounding box on the origin and scale its farthest vertex to distance 1.

    Args:
        mesh: A mesh with a positive extent (what `read_mesh` returns).

    Returns:
        The mesh in the unit sphere, and the map that took it there (in the mesh's own world units).
    """
    vertices = mesh.vertices.astype(np.float64)
    centre = (vertices.min(0) + vertices.max(0)) / 2
    scale = 1.0 / float(np.linalg.norm(vertices - centre, axis=1).max())
    return mesh.moved(centre, scale), Normalisation((float(centre[0]), float(centre[1]), float(centre[2])), scale)
