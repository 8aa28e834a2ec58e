"""Triangles as VTK takes them."""

from __future__ import annotations

from typing import Any

import numpy as np


def poly_data(vertices: np.ndarray, faces: np.ndarray) -> Any:
    """A ``vtkPolyData`` with a copy of vertices ``[N, 3]`` and triangles, whole numbers ``[M, 3]``."""
    from vtkmodules.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray
    from vtkmodules.vtkCommonCore import vtkPoints
    from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData

    points, cells, data = vtkPoints(), vtkCellArray(), vtkPolyData()
    points.SetData(numpy_to_vtk(np.ascontiguousarray(vertices), deep=1))
    offsets = np.arange(0, 3 * len(faces) + 1, 3)
    corners = np.ascontiguousarray(faces, dtype=np.int64).reshape(-1)
    cells.SetData(numpy_to_vtkIdTypeArray(offsets, deep=1), numpy_to_vtkIdTypeArray(corners, deep=1))
    data.SetPoints(points)
    data.SetPolys(cells)
    return data
