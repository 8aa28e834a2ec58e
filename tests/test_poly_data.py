import numpy as np
import pytest

from vfusion3d.poly_data import poly_data


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint32])
def test_triangles_arrive_as_they_are(kind):
    from vtkmodules.util.numpy_support import vtk_to_numpy

    vertices = np.random.default_rng(0).normal(size=(10, 6)).astype(np.float32)[:, ::2]  # not contiguous
    faces = np.array([[0, 1, 2], [9, 2, 1]], dtype=kind)[:, ::-1]
    data = poly_data(vertices, faces)
    assert (vtk_to_numpy(data.GetPoints().GetData()) == vertices).all()
    assert data.GetNumberOfPolys() == 2
    assert vtk_to_numpy(data.GetPolys().GetConnectivityArray()).reshape(-1, 3).tolist() == [[2, 1, 0], [1, 2, 9]]
    vertices[:] = 0
    assert (vtk_to_numpy(data.GetPoints().GetData()) != 0).all()
