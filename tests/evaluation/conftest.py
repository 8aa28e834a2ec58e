"""Small scenes of procedural objects, and the true views as everyone's predictions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.meshes.conftest import can_draw  # noqa: F401 - a fixture
from vfusion3d.alpha import straight_pixels
from vfusion3d.cameras import Cameras, orbit
from vfusion3d.data.procedural import sample_objects
from vfusion3d.data.raycast import render
from vfusion3d.data.scenes import Scene, SceneInfo, write_scene
from vfusion3d.evaluation import Protocol
from vfusion3d.meshes import write_mesh
from vfusion3d.rendering.isosurface import SurfaceMesh

SIZE, VIEWS = 24, 4


@pytest.fixture
def protocol() -> Protocol:
    return Protocol("small", "for tests", "benchmark", VIEWS, SIZE, elevation=20)


@pytest.fixture
def scenes(tmp_path: Path) -> dict[str, Scene]:
    """Three objects seen by four cameras."""
    return {
        name: scene_of(tmp_path / "scenes" / name, k, orbit(VIEWS, 0.35))
        for k, name in enumerate(("cat", "dog", "jar"))
    }


def scene_of(folder: Path, seed: int, cameras: Cameras, seen_from: Cameras | None = None) -> Scene:
    """A scene with an object's pictures from some cameras, which may be told as others."""
    images = render(sample_objects(torch.tensor([seed])), (seen_from or cameras).unsqueeze(0), SIZE, SIZE)[0]
    return write_scene(folder, straight_pixels(images), cameras, SceneInfo(layout="benchmark"))


@pytest.fixture
def renders(tmp_path: Path) -> Callable[..., Path]:
    """Folders of the true views as PNG files, on white or with alpha."""

    def write(scenes: dict[str, Scene], alpha: bool = True, first: int = 0, size: int = SIZE) -> Path:
        for name, scene in scenes.items():
            folder = tmp_path / "renders" / name
            folder.mkdir(parents=True)
            for view in range(first, len(scene)):
                picture = Image.fromarray(scene.pixels(view)).resize((size, size))
                if not alpha:
                    white = Image.new("RGBA", picture.size, "white")
                    picture = Image.alpha_composite(white, picture).convert("RGB")
                picture.save(folder / f"{view}.png")  # 2 before 10, as people name them
        return tmp_path / "renders"

    return write


def surface(scale: float = 1.0) -> SurfaceMesh:
    """A lop-sided coloured block, no two sides alike, its sphere of radius about ``scale``."""
    grid = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)
    vertices = grid * [0.8, 0.5, 0.3] * scale
    vertices[7] *= 0.5
    faces = np.array(
        [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4],
         [1, 5, 7], [1, 7, 3]]
    )  # fmt: skip
    normals = grid / np.linalg.norm(grid, axis=-1, keepdims=True)
    return SurfaceMesh(vertices, faces, np.clip((grid + 1) / 2, 0.1, 0.9), normals)


@pytest.fixture
def meshes(tmp_path: Path, can_draw: None) -> Path:  # noqa: F811
    (tmp_path / "meshes").mkdir()
    write_mesh(surface(30.0), tmp_path / "meshes" / "block.glb")  # in units of its own
    return tmp_path / "meshes"
