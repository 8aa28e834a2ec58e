"""Fewer triangles for the same shape."""

from __future__ import annotations

import numpy as np

from vfusion3d.rendering.topology import is_closed

TARGETS = (1.0, 0.98, 0.96, 0.93, 0.9, 0.85, 0.8, 0.7, 0.6, 1.2, 1.5, 2.0, 4.0)
"""Shares of the budget tried in turn until a result is closed."""


def simplify(vertices: np.ndarray, faces: np.ndarray, budget: int) -> tuple[np.ndarray, np.ndarray]:
    """Collapse edges of a closed surface by their quadric error (Garland and Heckbert 1997, through VTK).

    A surface that was closed stays closed, as 3D printers need it: where no closed surface is found within the
    budget, more faces are kept.

    Args:
        vertices: ``[N, 3]``.
        faces: Counter-clockwise from outside, ``[M, 3]``.
        budget: Faces wanted at most.

    Returns:
        Vertices float32 and faces int32; the same arrays if there are few enough.

    Raises:
        ValueError: if ``budget`` is under 4, the faces of a tetrahedron.
    """
    from vtkmodules.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray, vtk_to_numpy
    from vtkmodules.vtkCommonCore import vtkPoints
    from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData
    from vtkmodules.vtkFiltersCore import vtkQuadricDecimation

    if budget < 4:
        raise ValueError(f"Argument `budget` must be at least 4 faces, but got {budget}.")
    points, cells, data = vtkPoints(), vtkCellArray(), vtkPolyData()
    points.SetData(numpy_to_vtk(np.ascontiguousarray(vertices), deep=1))
    offsets, corners = np.arange(0, 3 * len(faces) + 1, 3), faces.astype(np.int64).ravel()
    cells.SetData(numpy_to_vtkIdTypeArray(offsets, deep=1), numpy_to_vtkIdTypeArray(corners, deep=1))
    data.SetPoints(points)
    data.SetPolys(cells)
    for share in TARGETS:
        target = int(share * budget)
        if target >= len(faces):
            break
        decimation = vtkQuadricDecimation()
        decimation.SetInputData(data)
        decimation.SetTargetReduction(1 - target / len(faces))
        decimation.Update()
        result = decimation.GetOutput()
        fewer = vtk_to_numpy(result.GetPolys().GetConnectivityArray()).reshape(-1, 3).astype(np.int32)
        if is_closed(fewer):
            used, renumbered = np.unique(fewer, return_inverse=True)
            places = vtk_to_numpy(result.GetPoints().GetData())[used].astype(np.float32)
            return places, renumbered.reshape(-1, 3).astype(np.int32)
    return vertices, faces
