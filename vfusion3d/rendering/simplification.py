"""Fewer triangles for the same shape."""

from __future__ import annotations

import numpy as np

from vfusion3d.rendering.topology import is_closed

AIMS = (1.0, 0.97, 0.93, 0.87, 0.8, 0.7, 0.6)
"""Shares of the budget aimed at in turn."""
SMALLEST_STEP = 0.98
"""Share of the faces that a step must remove a part of to be worth a try."""


def simplify(vertices: np.ndarray, faces: np.ndarray, budget: int) -> tuple[np.ndarray, np.ndarray]:
    """Collapse edges of a closed surface by their quadric error (Garland and Heckbert 1997, through VTK).

    A surface that was closed stays closed, as 3D printers need it: where one step to the budget tears a hole, smaller
    ones are taken, and where those do not reach it either, more faces are kept.

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
    if len(faces) <= budget:
        return vertices, faces
    for aim in AIMS:
        share = aim * budget / len(faces)
        while share < SMALLEST_STEP:
            fewer = _collapse(vertices, faces, int(share * len(faces)))
            if is_closed(fewer[1]) and len(fewer[1]) < len(faces):
                vertices, faces = fewer
                share = aim * budget / len(faces)
            else:
                share **= 0.5
            if len(faces) <= budget:
                return vertices, faces
    return vertices, faces


def _collapse(vertices: np.ndarray, faces: np.ndarray, target: int) -> tuple[np.ndarray, np.ndarray]:
    """About ``target`` faces, closed or not; every vertex has a place of its own."""
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkFiltersCore import vtkQuadricDecimation

    from vfusion3d.meshes.poly_data import poly_data

    decimation = vtkQuadricDecimation()
    decimation.SetInputData(poly_data(vertices, faces))
    decimation.SetTargetReduction(1 - target / len(faces))
    decimation.Update()
    result = decimation.GetOutput()
    fewer = vtk_to_numpy(result.GetPolys().GetConnectivityArray()).reshape(-1, 3)
    # Neighbours may end at one place, where the faces between them have no area.
    places, number = np.unique(
        vtk_to_numpy(result.GetPoints().GetData()).astype(np.float32), axis=0, return_inverse=True
    )
    fewer = number.reshape(-1)[fewer]
    fewer = fewer[(fewer != np.roll(fewer, 1, axis=1)).all(1)]
    used, renumbered = np.unique(fewer, return_inverse=True)
    return places[used], renumbered.reshape(-1, 3).astype(np.int32)
