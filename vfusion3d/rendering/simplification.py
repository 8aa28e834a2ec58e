"""Fewer triangles for the same shape."""

from __future__ import annotations

import numpy as np

from vfusion3d.rendering.topology import is_closed, weld, without_unused

SMALLEST_STEP = 0.98
"""Share of the faces beyond which steps of the quadric error are too small to be worth a try."""
GROWTH = 1.1
"""Factor between the lengths of one round of edges and the next."""


def simplify(vertices: np.ndarray, faces: np.ndarray, budget: int) -> tuple[np.ndarray, np.ndarray]:
    """Collapse edges of a closed surface, which stays closed, as 3D printers need it.

    By their quadric error (Garland and Heckbert 1997, through VTK), in smaller steps where a large one tears a hole.
    What cannot be reached so is reached by collapsing short edges (Manifold), which tears none but follows the shape
    less well.

    Args:
        vertices: ``[N, 3]``.
        faces: Counter-clockwise from outside, ``[M, 3]``.
        budget: Faces wanted at most.

    Returns:
        Vertices float32 and faces int32; the same arrays if there are few enough.

    Raises:
        ValueError: if ``budget`` is under 4, the faces of a tetrahedron.
    """
    if budget < 4:
        raise ValueError(f"Argument `budget` must be at least 4 faces, but got {budget}.")
    share = budget / len(faces)
    while len(faces) > budget:
        fewer = _collapse(vertices, faces, int(share * len(faces)))
        if is_closed(fewer[1]) and len(fewer[1]) < len(faces):
            vertices, faces = fewer
            share = budget / len(faces)
        elif share < SMALLEST_STEP:
            share **= 0.5
        else:
            return _collapse_short_edges(vertices, faces, budget)
    return vertices, faces


def _collapse_short_edges(vertices: np.ndarray, faces: np.ndarray, budget: int) -> tuple[np.ndarray, np.ndarray]:
    """Collapse ever longer edges until few enough faces are left and the surface is closed."""
    from manifold3d import Error, Manifold, Mesh

    solid = Manifold(Mesh(vertices.astype(np.float32), faces.astype(np.uint32)))
    if solid.status() != Error.NoError:
        return vertices, faces
    size = float(np.ptp(vertices, axis=0).max())
    tolerance = 1e-3 * size
    while tolerance < size:
        solid = solid.simplify(tolerance)
        tolerance *= GROWTH
        if 0 < solid.num_tri() <= budget:
            mesh = solid.to_mesh()
            fewer = _at_places(mesh.vert_properties[:, :3], mesh.tri_verts)
            if is_closed(fewer[1]):
                return fewer
    return vertices, faces


def _collapse(vertices: np.ndarray, faces: np.ndarray, target: int) -> tuple[np.ndarray, np.ndarray]:
    """About ``target`` faces, closed or not; every vertex has a place of its own."""
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkFiltersCore import vtkQuadricDecimation

    from vfusion3d.poly_data import poly_data

    decimation = vtkQuadricDecimation()
    decimation.SetInputData(poly_data(vertices, faces))
    decimation.SetTargetReduction(1 - target / len(faces))
    decimation.Update()
    result = decimation.GetOutput()
    return _at_places(
        vtk_to_numpy(result.GetPoints().GetData()),
        vtk_to_numpy(result.GetPolys().GetConnectivityArray()).reshape(-1, 3),
    )


def _at_places(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same surface with one vertex per place: where neighbours share one, the faces between them go."""
    vertices = vertices.astype(np.float32)
    faces = weld(vertices, faces)
    return without_unused(vertices, faces[(faces != np.roll(faces, 1, axis=1)).all(1)])
