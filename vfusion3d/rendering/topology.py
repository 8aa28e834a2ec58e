"""How the triangles of a mesh hang together."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def weld(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Faces ``[M, 3]`` with one number for all vertices ``[N, 3]`` at one place (texture seams repeat them)."""
    _, first, place = np.unique(vertices, axis=0, return_index=True, return_inverse=True)
    return first[place.reshape(-1)][faces]


def without_unused(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The vertices that faces use, and the faces renumbered to int32."""
    used, renumbered = np.unique(faces, return_inverse=True)
    return vertices[used], renumbered.reshape(-1, 3).astype(np.int32)


def is_closed(faces: np.ndarray) -> bool:
    """Whether every edge joins exactly two faces that are wound alike, so that there is an inside.

    Args:
        faces: Numbers of vertices, one per place (`weld`), ``[M, 3]``.
    """
    edges = np.stack([faces, np.roll(faces, -1, axis=1)], axis=-1).reshape(-1, 2).astype(np.int64)
    count = int(faces.max(initial=0)) + 1
    there, back = np.sort(edges @ [count, 1]), np.sort(edges @ [1, count])
    return len(faces) > 0 and bool((np.diff(there) > 0).all()) and np.array_equal(there, back)


def pieces(faces: np.ndarray, count: int) -> tuple[int, np.ndarray]:
    """Connected pieces of a mesh.

    Args:
        faces: Numbers of vertices, one per place, ``[M, 3]``.
        count: Vertices in all.

    Returns:
        How many pieces there are (a vertex without a face is one), and the piece of each face, ``[M]``.
    """
    start, end = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    links = coo_array((np.ones(len(start), dtype=np.int8), (start, end)), shape=(count, count))
    number, label = connected_components(links, directed=False)
    return number, label[faces[:, 0]]
