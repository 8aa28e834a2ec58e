"""Mesh files by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from vfusion3d.errors import UsageError
from vfusion3d.meshes.files import find_meshes


def test_meshes_of_one_name_get_different_folders(tmp_path: Path) -> None:
    paths = [tmp_path / "a" / "m.glb", tmp_path / "b" / "m.glb", tmp_path / "b" / "m.ply", tmp_path / "b" / "n.ply"]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    found = find_meshes([str(tmp_path), str(paths[3])])
    assert found == dict(zip(["a_m_glb", "b_m_glb", "b_m_ply", "n"], paths, strict=True))
    twin = tmp_path / "c" / "a" / "m.glb"
    twin.parent.mkdir(parents=True)
    twin.touch()
    with pytest.raises(UsageError, match="rename one"):
        find_meshes([str(tmp_path)])
