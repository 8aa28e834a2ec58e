"""Meshes: readers, views rendered from them, and writers.

Public names are imported on first use, because VTK and torch take a second to import.
"""

from __future__ import annotations

import importlib
from typing import Any

MESH_FORMATS = ("glb", "obj", "ply", "stl")
"""What `write_mesh` writes."""

_PUBLIC = {
    "BlenderSettings": "blender",
    "Environment": "lighting",
    "Geometry": "vtk_renderer",
    "Lights": "lighting",
    "Mesh": "mesh",
    "MeshPart": "mesh",
    "RayPool": "ray_pool",
    "RenderJob": "views",
    "ViewSettings": "views",
    "VtkRenderer": "vtk_renderer",
    "WorkerPool": "workers",
    "normalise": "normalisation",
    "read_captions": "captions",
    "read_environment": "lighting",
    "read_mesh": "readers",
    "render_scene": "views",
    "render_with_blender": "blender",
    "write_mesh": "writers",
}

__all__ = sorted([*_PUBLIC, "MESH_FORMATS"])


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
