from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from vfusion3d.errors import MissingExtraError
from vfusion3d.meshes.mesh import Mesh, MeshPart


@pytest.fixture(scope="session")
def can_draw() -> None:
    from vfusion3d.meshes.vtk_renderer import select_window

    try:
        select_window()
    except MissingExtraError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def renderers(can_draw: None) -> dict:
    from vfusion3d.meshes.vtk_renderer import VtkRenderer

    return {lighting: VtkRenderer(lighting) for lighting in ("lambert", "unlit")}


@pytest.fixture
def box() -> Callable[..., MeshPart]:
    """Makes an axis-aligned box with flat normals in one colour."""

    def make(centre: tuple = (0, 0, 0), half: tuple = (0.5, 0.5, 0.5), color: tuple = (128, 128, 128)) -> MeshPart:
        vertices, normals = [], []
        for axis in range(3):
            for side in (-1.0, 1.0):
                normal = np.eye(3)[axis] * side
                u, v = np.eye(3)[(axis + 1) % 3] * side, np.eye(3)[(axis + 2) % 3]
                corners = [normal - u - v, normal + u - v, normal + u + v, normal - u + v]
                vertices += [corners[k] for k in (0, 1, 2, 0, 2, 3)]
                normals += [normal] * 6
        return MeshPart(
            vertices=(np.array(vertices) * half + centre).astype(np.float32),
            faces=np.arange(36).reshape(-1, 3),
            normals=np.array(normals, dtype=np.float32),
            colours=np.tile(np.array([*color, 255], dtype=np.uint8), (36, 1)),
        )

    return make


@pytest.fixture
def box_mesh(box: Callable[..., MeshPart]) -> Callable[..., Mesh]:
    return lambda *args, **kwargs: Mesh((box(*args, **kwargs),))
