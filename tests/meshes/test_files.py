"""Mesh files by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from vfusion3d.errors import UsageError
from vfusion3d.meshes.files import files_of, find_meshes


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


def test_meshes_of_archives_are_named_by_their_folders(tmp_path: Path) -> None:
    """Google's scans are NAME/meshes/model.obj, Kubric's NAME/visual_geometry.obj beside their collision geometry."""
    paths = [
        tmp_path / "scans" / file
        for file in (
            "CAT/meshes/model.obj",
            "DOG/visual_geometry.obj",
            "DOG/collision_geometry.obj",
            "JAR/meshes/m.obj",
        )
    ]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "cow.glb").touch()
    found = find_meshes([str(tmp_path)], {"CAT", "DOG", "cow", "fly"})
    assert found == {"CAT": paths[0], "DOG": paths[1], "cow": tmp_path / "cow.glb"}
    # A name above the folder that is searched is nobody's.
    assert find_meshes([str(tmp_path / "scans")], {"CAT", tmp_path.name, "scans"}) == {"CAT": paths[0]}
    assert find_meshes([str(paths[0])], {"CAT"}) == {"CAT": paths[0]}
    for given in ((paths[0].parent.parent, paths[1].parent), (paths[0].parent, tmp_path)):  # of one object each
        assert find_meshes([*map(str, given)], {"CAT", "DOG"}) == {"CAT": paths[0], "DOG": paths[1]}
    (tmp_path / "scans" / "cow.ply").touch()
    with pytest.raises(UsageError, match="would both be cow; leave one of them out"):
        find_meshes([str(tmp_path)], {"cow"})


def test_textures_of_gazebos_layout_belong_to_the_mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mesh, texture = tmp_path / "CAT" / "meshes" / "model.obj", tmp_path / "CAT" / "materials" / "textures" / "t.png"
    for path in (mesh, texture, tmp_path / "CAT" / "other.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert files_of(mesh) == [mesh, texture]
    monkeypatch.chdir(mesh.parent)
    assert files_of(Path("model.obj")) == [Path("model.obj"), texture]
