"""Mesh files by name."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from vfusion3d.errors import MeshError, UsageError
from vfusion3d.meshes.companions import companion_folders
from vfusion3d.meshes.readers import MESH_SUFFIXES

_COMPANIONS = (".mtl", ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tga", ".bin")


def find_meshes(paths: list[str], names: Collection[str] | None = None) -> dict[str, Path]:
    """Mesh files by the name of their scene folder: the file's stem, lengthened where two would share it.

    Args:
        paths: Mesh files, and folders that are searched for them.
        names: Names that are looked for, all others being left out: of a file, or of a folder above it, below the one
            that is searched, where archives call all files alike (``NAME/meshes/model.obj``); of several files the one
            that is no collision geometry.

    Raises:
        MeshError: if a path does not exist or a folder contains no mesh.
        UsageError: if two files cannot be told apart.
    """
    found: dict[Path, list[str]] = {}  # the names of folders above, nearest first
    for text in paths:
        path = Path(text)
        if os.path.isdir(path):  # unlike pathlib's, False where reading is not permitted
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in MESH_SUFFIXES and os.path.isfile(p))
            if not inside:
                raise MeshError(f"The folder {path} contains no meshes ({', '.join(MESH_SUFFIXES)}); name another.")
            above = {file: [folder.name for folder in file.relative_to(path).parents] for file in inside}
            if names is not None and not any(name in names for f in inside for name in (f.stem, *above[f])):
                above = {file: _two_above(file) for file in inside}  # the folder of one object itself
            for file in inside:
                found[file] = above[file] + found.get(file, [])
        elif os.path.isfile(path):
            found[path] = _two_above(path) + found.get(path, [])
        else:
            raise MeshError(f"The mesh {path} does not exist or may not be read; check the path.")
    if names is not None:
        return _named(found, names)
    stems = Counter(path.stem for path in found)
    meshes: dict[str, Path] = {}
    for path in found:
        name = path.stem if stems[path.stem] == 1 else f"{path.parent.name}_{path.stem}_{path.suffix[1:].lower()}"
        if name in meshes:
            raise UsageError(f"The meshes {meshes[name]} and {path} would share the scene {name}; rename one of them.")
        meshes[name] = path
    return meshes


def _two_above(path: Path) -> list[str]:
    """Names of the two folders that a file is in, the nearest first."""
    return [folder.name for folder in list(Path(os.path.abspath(path)).parents)[:2]]


def _named(files: Mapping[Path, Sequence[str]], names: Collection[str]) -> dict[str, Path]:
    """Of mesh files, with the names of the folders they are in, those with the given names, or in such a folder."""
    found: dict[str, list[Path]] = {}
    for path, folders in files.items():
        own = [name for name in (path.stem, *folders) if name in names]
        if own:
            found.setdefault(own[0], []).append(path)
    meshes = {}
    for name, candidates in sorted(found.items()):
        seen = [path for path in candidates if "collision" not in path.stem.lower()] or candidates
        if len(seen) > 1:
            raise UsageError(f"The meshes {seen[0]} and {seen[1]} would both be {name}; leave one of them out.")
        meshes[name] = seen[0]
    return meshes


def files_of(mesh: Path) -> list[Path]:
    """A mesh file and, where it may refer to others, all files beside it and below that it could: materials, textures
    and buffers."""
    if mesh.suffix.lower() not in (".obj", ".gltf"):
        return [mesh]
    inside = (p for folder in companion_folders(mesh) for p in folder.rglob("*"))
    return [mesh, *sorted(p for p in inside if p.suffix.lower() in _COMPANIONS and p.is_file())]
