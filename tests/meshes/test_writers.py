import io
import json
import struct
from types import SimpleNamespace

import numpy as np
import pytest
import trimesh
from PIL import Image

from vfusion3d.errors import MeshError, OutputError, UsageError
from vfusion3d.meshes import MESH_FORMATS
from vfusion3d.meshes.readers import read_mesh
from vfusion3d.meshes.writers import srgb_to_linear, to_y_up, write_mesh

CORNERS = np.array([[0.0, 0.0, 0.0], [0.9, 0.0, 0.0], [0.0, 0.4, 0.0], [0.0, 0.0, 0.6]], dtype=np.float32)


def tetrahedron() -> SimpleNamespace:
    """The front (+X) corner is red, the one to the object's left (+Y) green, the top (+Z) blue."""
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], dtype=np.int32)
    colours = np.array([[128, 64, 10], [255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=np.uint8)
    normals = CORNERS - CORNERS.mean(0)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return SimpleNamespace(vertices=CORNERS, faces=faces, colours=colours, normals=normals, uv=None, texture=None)


def textured_tetrahedron() -> SimpleNamespace:
    """Each face has a quarter of a texture of four colours to itself."""
    mesh = tetrahedron()
    corners = mesh.faces.ravel()
    origin = np.array([[0.0, 0.0], [0.5, 0.0], [0.0, 0.5], [0.5, 0.5]])
    uv = (origin[:, None] + np.array([[0.1, 0.1], [0.4, 0.1], [0.1, 0.4]])).reshape(-1, 2).astype(np.float32)
    texture = np.zeros((8, 8, 3), dtype=np.uint8)
    texture[4:, :4], texture[4:, 4:], texture[:4, :4], texture[:4, 4:] = FACE_COLOURS  # row 0 is v = 1
    return SimpleNamespace(
        vertices=mesh.vertices[corners],
        faces=np.arange(12, dtype=np.int32).reshape(4, 3),
        colours=mesh.colours[corners],
        normals=mesh.normals[corners],
        uv=uv,
        texture=texture,
    )


FACE_COLOURS = np.array([[200, 10, 20], [30, 180, 40], [50, 60, 220], [240, 230, 70]], dtype=np.uint8)


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
    width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}[entry["type"]]
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
    assert document["accessors"][primitive["attributes"]["COLOR_0"]]["normalized"] is True
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


@pytest.mark.parametrize("name", ["glb", "obj"])
def test_a_texture_comes_back_on_its_faces(tmp_path, name):
    mesh = textured_tetrahedron()
    files = write_mesh(mesh, tmp_path / f"toy.{name}")
    companions = ["toy.png", "toy.mtl"] if name == "obj" else []
    assert [file.name for file in files] == [*companions, f"toy.{name}"]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(file.name for file in files)
    [part] = read_mesh(tmp_path / f"toy.{name}").parts
    assert part.uv is not None and part.texture is not None and (part.colours == 255).all()
    for face in part.faces:
        places = np.sort(part.vertices[face], axis=0)
        [number] = [k for k in range(4) if np.allclose(np.sort(mesh.vertices[mesh.faces[k]], axis=0), places)]
        u, v = part.uv[face].mean(0)
        assert part.texture[int((1 - v) * 8), int(u * 8), :3].tolist() == FACE_COLOURS[number].tolist()


def test_a_textured_glb_golden(tmp_path):
    mesh = textured_tetrahedron()
    write_mesh(mesh, tmp_path / "mesh.glb")
    document, body = glb_parts(tmp_path / "mesh.glb")
    [primitive] = document["meshes"][0]["primitives"]
    assert set(primitive["attributes"]) == {"POSITION", "NORMAL", "TEXCOORD_0"}
    uv = accessor(document, body, primitive["attributes"]["TEXCOORD_0"])
    assert np.abs(uv - np.stack([mesh.uv[:, 0], 1 - mesh.uv[:, 1]], -1)).max() < 1e-6  # v points down in glTF
    view = document["bufferViews"][document["images"][0]["bufferView"]]
    picture = Image.open(io.BytesIO(body[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]))
    assert np.array_equal(np.asarray(picture), mesh.texture)
    assert document["buffers"][0]["byteLength"] == len(body)
    assert document["materials"][0]["pbrMetallicRoughness"]["baseColorTexture"] == {"index": 0}


def test_a_textured_mesh_is_a_ply_with_vertex_colours(tmp_path):
    mesh = textured_tetrahedron()
    write_mesh(mesh, tmp_path / "mesh.ply")
    [part] = read_mesh(tmp_path / "mesh.ply").parts
    assert part.texture is None and np.array_equal(part.colours[..., :3][part.faces], mesh.colours[mesh.faces])


def test_stl_is_in_millimetres(tmp_path):
    for millimetres in (50.0, 200.0):
        write_mesh(textured_tetrahedron(), tmp_path / "mesh.stl", millimetres)
        solid = trimesh.load(tmp_path / "mesh.stl", force="mesh")
        assert solid.extents.max() == pytest.approx(millimetres) and solid.is_watertight
    with pytest.raises(UsageError, match="`millimetres` must be a positive length, but got 0"):
        write_mesh(tetrahedron(), tmp_path / "other.stl", 0)


@pytest.mark.parametrize("name", ["glb", "obj", "ply", "stl"])
def test_another_library_reads_a_closed_solid(tmp_path, name):
    write_mesh(tetrahedron(), tmp_path / f"mesh.{name}")
    solid = trimesh.load(tmp_path / f"mesh.{name}", force="mesh")
    unit = 100 / 0.9 if name == "stl" else 1.0
    assert solid.is_watertight and solid.volume == pytest.approx(0.9 * 0.4 * 0.6 / 6 * unit**3, rel=1e-4)
    expected = CORNERS * unit if name == "stl" else to_y_up(CORNERS)
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


@pytest.mark.parametrize("name", MESH_FORMATS)
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
