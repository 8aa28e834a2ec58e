import json
import struct
from types import SimpleNamespace

import numpy as np
import pytest
import trimesh

from vfusion3d.errors import MeshError, OutputError, UsageError
from vfusion3d.meshes.readers import read_mesh
from vfusion3d.meshes.writers import WRITERS, srgb_to_linear, to_y_up, write_mesh

CORNERS = np.array([[0.0, 0.0, 0.0], [0.9, 0.0, 0.0], [0.0, 0.4, 0.0], [0.0, 0.0, 0.6]], dtype=np.float32)


def tetrahedron() -> SimpleNamespace:
    """The front (+X) corner is red, the one to the object's left (+Y) green, the top (+Z) blue."""
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], dtype=np.int32)
    colours = np.array([[128, 64, 10], [255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=np.uint8)
    normals = CORNERS - CORNERS.mean(0)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return SimpleNamespace(vertices=CORNERS, faces=faces, colours=colours, normals=normals)


def glb_parts(path) -> tuple[dict, bytes]:
    data = path.read_bytes()
    magic, version, length = struct.unpack("<4sII", data[:12])
    assert (magic, version, length) == (b"glTF", 2, len(data))
    size, kind = struct.unpack("<I4s", data[12:20])
    assert kind == b"JSON" and size % 4 == 0
    body_size, kind = struct.unpack("<I4s", data[20 + size : 28 + size])
    assert kind == b"BIN\0" and body_size % 4 == 0 and len(data) == 28 + size + body_size
    return json.loads(data[20 : 20 + size]), data[28 + size :]


def accessor(document: dict, body: bytes, number: int) -> np.ndarray:
    entry = document["accessors"][number]
    view = document["bufferViews"][entry["bufferView"]]
    kind = {5126: "<f4", 5123: "<u2", 5125: "<u4"}[entry["componentType"]]
    width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[entry["type"]]
    values = np.frombuffer(body[view["byteOffset"] : view["byteOffset"] + view["byteLength"]], kind)
    return values.reshape(entry["count"], width)


def test_glb_golden(tmp_path):
    write_mesh(tetrahedron(), tmp_path / "mesh.glb")
    document, body = glb_parts(tmp_path / "mesh.glb")
    [primitive] = document["meshes"][0]["primitives"]
    positions = accessor(document, body, primitive["attributes"]["POSITION"])
    colours = accessor(document, body, primitive["attributes"]["COLOR_0"])
    # World front +X is glTF's +Z, world up +Z is glTF's +Y, world +Y is glTF's +X.
    assert positions[1].tolist() == pytest.approx([0, 0, 0.9])
    assert positions[3].tolist() == pytest.approx([0, 0.6, 0])
    assert positions[2].tolist() == pytest.approx([0.4, 0, 0])
    assert document["accessors"][0]["min"] == [0, 0, 0]
    assert document["accessors"][0]["max"] == pytest.approx([0.4, 0.6, 0.9])
    # COLOR_0 is linear: sRGB 128 is 0.2159 of full light.
    assert colours[1].tolist() == [65535, 0, 0, 65535]
    assert colours[0, 0] / 65535 == pytest.approx(0.2159, abs=1e-4)
    assert document["accessors"][2]["normalized"] is True
    assert accessor(document, body, primitive["indices"]).ravel().tolist() == tetrahedron().faces.ravel().tolist()


@pytest.mark.parametrize("name", ["glb", "obj", "ply"])
def test_our_reader_gives_the_mesh_back(tmp_path, name):
    mesh = tetrahedron()
    write_mesh(mesh, tmp_path / f"mesh.{name}")
    back = read_mesh(tmp_path / f"mesh.{name}")
    [part] = back.parts
    assert np.abs(part.vertices[part.faces] - mesh.vertices[mesh.faces]).max() < 1e-5
    difference = part.colours[part.faces][..., :3].astype(int) - mesh.colours[mesh.faces].astype(int)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("name", ["glb", "obj", "ply", "stl"])
def test_another_library_reads_a_closed_solid(tmp_path, name):
    write_mesh(tetrahedron(), tmp_path / f"mesh.{name}")
    solid = trimesh.load(tmp_path / f"mesh.{name}", force="mesh")
    assert solid.is_watertight and solid.volume == pytest.approx(0.9 * 0.4 * 0.6 / 6, rel=1e-4)
    expected = CORNERS if name == "stl" else to_y_up(CORNERS)
    assert np.abs(np.sort(solid.vertices, axis=0) - np.sort(expected, axis=0)).max() < 1e-5


def test_normals_turn_with_the_mesh(tmp_path):
    mesh = tetrahedron()
    write_mesh(mesh, tmp_path / "mesh.ply")
    normals = trimesh.load(tmp_path / "mesh.ply", process=False).vertex_normals
    assert np.abs(normals - to_y_up(mesh.normals)).max() < 1e-5


def test_the_transfer_function():
    assert srgb_to_linear(np.array([0.0, 0.04, 0.5, 1.0])).tolist() == pytest.approx(
        [0, 0.0030960, 0.2140411, 1], rel=1e-4
    )


def test_unknown_format(tmp_path):
    with pytest.raises(UsageError, match=r"'.fbx' is unknown; choose one of glb, obj, ply, stl"):
        write_mesh(tetrahedron(), tmp_path / "mesh.fbx")


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch, name):
    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="the disk is full"):
        write_mesh(tetrahedron(), tmp_path / f"mesh.{name}")
    assert list(tmp_path.iterdir()) == []


def test_bad_meshes(tmp_path):
    mesh = tetrahedron()
    with pytest.raises(MeshError, match="no faces"):
        write_mesh(SimpleNamespace(**{**vars(mesh), "faces": mesh.faces[:0]}), tmp_path / "mesh.glb")
    with pytest.raises(MeshError, match="NaN"):
        write_mesh(SimpleNamespace(**{**vars(mesh), "vertices": CORNERS * np.nan}), tmp_path / "mesh.glb")
    assert list(tmp_path.iterdir()) == []
