from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from vfusion3d.errors import MeshError
from vfusion3d.meshes.gltf import GltfFile
from vfusion3d.meshes.mesh import Mesh
from vfusion3d.meshes.normalisation import normalise
from vfusion3d.meshes.readers import read_mesh

TRIANGLE = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])  # file axes: front, left or right, up


def textured_square(factor: list[float] | None = None, **material: object) -> trimesh.Trimesh:
    """Two triangles in file axes whose texture is red above green; each owns its corners, as at a seam."""
    vertices = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=float)
    uv = np.array([[0, 0], [1, 0], [1, 1], [0.5, 0], [0.5, 1], [0, 1]])
    image = Image.fromarray(np.array([[[255, 0, 0]], [[0, 255, 0]]], dtype=np.uint8))
    pbr = trimesh.visual.material.PBRMaterial(baseColorTexture=image, baseColorFactor=factor, **material)
    faces = np.arange(6).reshape(2, 3)
    normals = np.tile([0.0, 0.0, 1.0], (6, 1))
    visual = trimesh.visual.TextureVisuals(uv=uv, material=pbr)
    return trimesh.Trimesh(vertices, faces, vertex_normals=normals, visual=visual, process=False)


@pytest.mark.parametrize("suffix", ["glb", "obj", "ply"])
def test_y_up_files_are_turned_into_the_world(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m.{suffix}"
    trimesh.Trimesh(TRIANGLE, [[0, 1, 2]], process=False).export(path)
    np.testing.assert_allclose(read_mesh(path).vertices, [[1, 0, 0], [0, 1, 0], [0, 0, 2]])
    np.testing.assert_allclose(read_mesh(path, up="z").vertices, TRIANGLE)
    assert read_mesh(path).name == "m"


def test_gltf_with_its_buffer_beside_it(tmp_path: Path) -> None:
    for name, content in trimesh.Scene(textured_square()).export(file_type="gltf").items():
        (tmp_path / name).write_bytes(content)
    (gltf,) = tmp_path.glob("*.gltf")
    mesh = read_mesh(gltf)
    assert mesh.n_faces == 2
    assert mesh.parts[0].texture is not None


def test_texture_and_seams_survive(tmp_path: Path) -> None:
    textured_square().export(tmp_path / "m.glb")
    (part,) = read_mesh(tmp_path / "m.glb").parts
    assert part.texture is not None and part.uv is not None
    np.testing.assert_array_equal(part.texture[:, 0], [[255, 0, 0, 255], [0, 255, 0, 255]])
    # The upper corners have v = 1 (row 0, red), and both sides of the seam keep their u.
    assert part.uv[part.vertices[:, 2] == 1, 1] == pytest.approx(1.0)
    corner = (part.vertices == [0, 0, 0]).all(1)
    assert sorted(part.uv[corner, 0].tolist()) == [0.0, 0.5]
    assert (part.colours == 255).all()


def test_base_colour_factor_multiplies_in_linear_light(tmp_path: Path) -> None:
    textured_square(factor=[0.2158605, 1.0, 1.0, 1.0]).export(tmp_path / "m.glb")
    (part,) = read_mesh(tmp_path / "m.glb").parts
    assert part.texture is not None
    assert abs(int(part.texture[0, 0, 0]) - 128) <= 1  # sRGB 128 is 0.21586 in linear light
    assert part.texture[1, 0, 1] == 255


def test_base_colour_factor_without_texture(tmp_path: Path) -> None:
    material = trimesh.visual.material.PBRMaterial(baseColorFactor=[0.2158605, 0.0, 1.0, 1.0])
    visual = trimesh.visual.TextureVisuals(material=material)
    trimesh.Trimesh(TRIANGLE, [[0, 1, 2]], visual=visual, process=False).export(tmp_path / "m.glb")
    (part,) = read_mesh(tmp_path / "m.glb").parts
    np.testing.assert_allclose(part.colours, np.tile([128, 0, 255, 255], (3, 1)), atol=1)
    assert part.texture is None


def test_gltf_vertex_colours_are_linear(tmp_path: Path) -> None:
    colors = np.array([[55, 0, 255, 255]] * 3, dtype=np.uint8)  # 55 / 255 in linear light is sRGB 128
    trimesh.Trimesh(TRIANGLE, [[0, 1, 2]], vertex_colors=colors, process=False).export(tmp_path / "m.glb")
    (part,) = read_mesh(tmp_path / "m.glb").parts
    np.testing.assert_array_equal(part.colours, np.tile([128, 0, 255, 255], (3, 1)))


@pytest.mark.parametrize("suffix", ["ply", "obj"])
def test_ply_and_obj_vertex_colours_are_taken_as_they_are(tmp_path: Path, suffix: str) -> None:
    colors = np.array([[10, 20, 30, 255], [40, 50, 60, 255], [70, 80, 90, 255]], dtype=np.uint8)
    trimesh.Trimesh(TRIANGLE, [[0, 1, 2]], vertex_colors=colors, process=False).export(tmp_path / f"m.{suffix}")
    (part,) = read_mesh(tmp_path / f"m.{suffix}").parts
    np.testing.assert_array_equal(part.colours, colors)


def test_ply_face_colours_do_not_blend(tmp_path: Path) -> None:
    square = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]], process=False)
    square.visual.face_colors = [[255, 0, 0, 255], [0, 0, 255, 255]]
    square.export(tmp_path / "m.ply")
    (part,) = read_mesh(tmp_path / "m.ply").parts
    of_faces = part.colours[part.faces]
    np.testing.assert_array_equal(of_faces[0], np.tile([255, 0, 0, 255], (3, 1)))
    np.testing.assert_array_equal(of_faces[1], np.tile([0, 0, 255, 255], (3, 1)))


def test_obj_with_material_library(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), (200, 100, 50)).save(tmp_path / "skin.png")
    (tmp_path / "m.mtl").write_text("newmtl a\nKd 0.5 0.5 0.5\nmap_Kd skin.png\nnewmtl b\nKd 1 0 0\n")
    (tmp_path / "m.obj").write_text(
        "mtllib m.mtl\nv 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 1 1\n"
        "usemtl a\nf 1/1 2/2 3/3\nusemtl b\nf 1 3 4\n"
    )
    parts = read_mesh(tmp_path / "m.obj").parts
    (textured,) = [part for part in parts if part.texture is not None]
    (plain,) = [part for part in parts if part.texture is None]
    assert textured.texture is not None
    np.testing.assert_array_equal(textured.texture[0, 0], [200, 100, 50, 255])
    assert (textured.colours == 255).all()
    np.testing.assert_array_equal(plain.colours[0], [255, 0, 0, 255])


def test_alpha_modes(tmp_path: Path) -> None:
    textured_square(alphaMode="MASK", alphaCutoff=0.25).export(tmp_path / "mask.glb")
    textured_square(alphaMode="BLEND").export(tmp_path / "blend.glb")
    (mask,) = read_mesh(tmp_path / "mask.glb").parts
    (blend,) = read_mesh(tmp_path / "blend.glb").parts
    assert (mask.alpha, mask.alpha_cutoff) == ("mask", 0.25)
    assert blend.alpha == "blend"


def test_missing_normals_keep_edges_and_smooth_the_rest(tmp_path: Path) -> None:
    cube = trimesh.creation.box()
    cube.export(tmp_path / "cube.ply")
    (part,) = read_mesh(tmp_path / "cube.ply", up="z").parts
    a, b, c = (part.vertices[part.faces[:, k]] for k in range(3))
    flat = np.cross(b - a, c - a)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    np.testing.assert_allclose(part.normals[part.faces], np.repeat(flat[:, None], 3, 1), atol=1e-6)

    trimesh.creation.icosphere(subdivisions=3).export(tmp_path / "ball.ply")
    (ball,) = read_mesh(tmp_path / "ball.ply").parts
    assert (ball.normals * ball.vertices).sum(1).min() > 0.999


@pytest.mark.parametrize("with_normals", [True, False])
def test_normals_and_winding_point_outwards_in_mirrored_and_stretched_nodes(tmp_path: Path, with_normals: bool) -> None:
    scene = trimesh.Scene()
    ball = trimesh.creation.icosphere(subdivisions=3)
    scene.add_geometry(ball, transform=np.diag([-2.0, 1.0, 1.0, 1.0]))
    scene.export(tmp_path / "m.glb", include_normals=with_normals)
    (part,) = read_mesh(tmp_path / "m.glb").parts
    assert np.ptp(part.vertices, axis=0) == pytest.approx([2, 4, 2], abs=0.05)
    a, b, c = (part.vertices[part.faces[:, k]] for k in range(3))
    assert ((np.cross(b - a, c - a) * a).sum(1) > 0).all()
    ellipsoid = part.vertices / [1, 4, 1]
    ellipsoid /= np.linalg.norm(ellipsoid, axis=1, keepdims=True)
    assert (part.normals * ellipsoid).sum(1).min() > 0.99
    np.testing.assert_allclose(np.linalg.norm(part.normals, axis=1), 1, atol=1e-5)


def test_faces_wound_against_their_normals_are_turned_over(tmp_path: Path) -> None:
    ball = trimesh.creation.icosphere(subdivisions=1)
    normals = ball.vertex_normals.copy()
    trimesh.Trimesh(ball.vertices, ball.faces[:, ::-1], vertex_normals=normals, process=False).export(
        tmp_path / "m.glb", include_normals=True
    )
    (part,) = read_mesh(tmp_path / "m.glb").parts
    a, b, c = (part.vertices[part.faces[:, k]] for k in range(3))
    assert ((part.normals * part.vertices).sum(1) > 0).all()
    assert ((np.cross(b - a, c - a) * a).sum(1) > 0).all()


def test_vertices_without_a_face_are_dropped(tmp_path: Path) -> None:
    (tmp_path / "m.obj").write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\nv 99 99 99\nf 1 2 3\n")
    assert read_mesh(tmp_path / "m.obj").vertices.max() == 1


def test_licence_of_a_gltf_file(tmp_path: Path) -> None:
    asset = {"version": "2.0", "extras": {"licence": "CC0-1.0"}}

    def stamp(tree: dict) -> None:
        tree["asset"] = asset

    trimesh.Scene(textured_square()).export(tmp_path / "m.glb", tree_postprocessor=stamp)
    assert read_mesh(tmp_path / "m.glb").licence == "CC0-1.0"
    asset = {"version": "2.0", "copyright": "2024 A. Person"}
    trimesh.Scene(textured_square()).export(tmp_path / "n.glb", tree_postprocessor=stamp)
    assert read_mesh(tmp_path / "n.glb").licence == "2024 A. Person"
    textured_square().export(tmp_path / "o.ply")
    assert read_mesh(tmp_path / "o.ply").licence is None


def test_real_meshes_have_the_extents_of_their_manifest() -> None:
    folder = Path(__file__).parents[3] / "shared" / "data" / "meshes"
    if not (folder / "MANIFEST.csv").is_file():
        pytest.skip("../shared/data/meshes is not here")
    with (folder / "MANIFEST.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[::12]
    for row in rows:
        mesh = read_mesh(folder / f"{row['name']}.glb")
        extent = [float(row[f"extent_{axis}"]) for axis in "zxy"]
        np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0), extent, rtol=0.01, atol=2e-4, err_msg=row["name"])
        assert 0.99 * int(row["faces"]) <= mesh.n_faces <= int(row["faces"])  # but for faces of zero area
        assert mesh.licence is not None
        assert (mesh.parts[0].texture is not None) == ("vertex" not in row["colour_kind"])


def gltf_of(mesh: trimesh.Trimesh | trimesh.Scene, **changes: object) -> bytes:
    """A GLB file with changes to its document's top-level keys."""
    scene = mesh if isinstance(mesh, trimesh.Scene) else trimesh.Scene(mesh)
    data: bytes = scene.export(file_type="glb", tree_postprocessor=lambda tree: tree.update(changes))
    return data


def write_obj(folder: Path, name: str, mtl: str | None) -> None:
    """A triangle whose material library says ``mtl``, or is missing."""
    if mtl is not None:
        (folder / f"{name}.mtl").write_text(f"newmtl a\n{mtl}\n")
    (folder / f"{name}.obj").write_text(
        f"mtllib {name}.mtl\nv 0 0 0\nv 1 0 0\nv 1 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nusemtl a\nf 1/1 2/2 3/3\n"
    )


def test_faces_of_zero_area_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "m.obj").write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\nv 9 9 9\nv 9 9 9\nv 2 2 0\nf 1 2 3\nf 1 4 5\nf 1 3 6\n")
    mesh = read_mesh(tmp_path / "m.obj")
    assert mesh.n_faces == 1
    assert mesh.vertices.max() == 1  # nor do their vertices count for the extent
    assert mesh.notes == (f"The mesh {tmp_path}/m.obj has faces of zero area (2 of 3), which were left out.",)


def test_a_mesh_a_kilometre_wide_and_far_away_keeps_its_details(tmp_path: Path) -> None:
    ball = trimesh.creation.icosphere(subdivisions=3)
    small, _ = normalise(read_mesh_of(ball, tmp_path / "small.obj"))
    ball.apply_scale(500.0)
    ball.apply_translation([500_000.0, 5_400_000.0, 0.0])  # metres in a UTM zone: float32 steps are half a metre
    large, moved = normalise(read_mesh_of(ball, tmp_path / "large.obj"))
    assert large.vertices.dtype == np.float32
    assert moved.scale == pytest.approx(1 / 500)
    np.testing.assert_allclose(large.vertices, small.vertices, atol=1e-6)
    assert (large.parts[0].normals * large.parts[0].vertices).sum(1).min() > 0.999


def read_mesh_of(mesh: trimesh.Trimesh, path: Path) -> Mesh:
    mesh.export(path, include_normals=False)
    return read_mesh(path)


def test_only_the_default_scene_is_read(tmp_path: Path) -> None:
    both = trimesh.Scene([trimesh.creation.box(), trimesh.creation.icosphere(subdivisions=1)])
    path = tmp_path / "m.glb"
    path.write_bytes(gltf_of(both))
    assert read_mesh(path).n_faces == 12 + 80
    nodes = next(k for k, node in enumerate(document_of(path)["nodes"]) if node.get("mesh") == 1)
    path.write_bytes(gltf_of(both, scenes=[{"nodes": [0]}, {"nodes": [nodes]}], scene=1))
    mesh = read_mesh(path)
    assert mesh.n_faces == 80
    assert mesh.notes == (f"The mesh {path} has 2 scenes; only the default one (1) is used.",)


def document_of(path: Path) -> dict:
    return GltfFile.load(path).document


def test_an_animated_mesh_is_read_at_rest(tmp_path: Path) -> None:
    path = tmp_path / "m.glb"
    path.write_bytes(gltf_of(trimesh.creation.box(), animations=[{"channels": [], "samplers": []}]))
    mesh = read_mesh(path)
    assert mesh.n_faces == 12
    assert mesh.notes == (f"The mesh {path} is animated; only its rest pose is used.",)


def test_caption_of_a_gltf_file(tmp_path: Path) -> None:
    path = tmp_path / "m.glb"
    for changes in (
        {"asset": {"version": "2.0", "extras": {"caption": "a red box"}}},
        {"scenes": [{"nodes": [0], "extras": {"description": "a red box"}}]},
    ):
        path.write_bytes(gltf_of(trimesh.creation.box(), **changes))
        assert read_mesh(path).caption == "a red box"
    path.write_bytes(gltf_of(trimesh.creation.box()))
    assert read_mesh(path).caption is None


def test_textures_are_found_as_exporters_name_them(tmp_path: Path) -> None:
    (tmp_path / "maps").mkdir()
    Image.new("RGB", (4, 4), (200, 100, 50)).save(tmp_path / "maps" / "my skin.png")
    for mtl in ("map_Kd maps/my skin.png", "map_Kd maps\\my skin.png", "map_Kd -s 1 1 1 ./maps/my skin.png"):
        write_obj(tmp_path, "m", mtl)
        (part,) = read_mesh(tmp_path / "m.obj").parts
        assert part.texture is not None
        np.testing.assert_array_equal(part.texture[0, 0], [200, 100, 50, 255])
    for name, content in trimesh.Scene(textured_square()).export(file_type="gltf").items():
        (tmp_path / name).write_bytes(content)
    (gltf,) = tmp_path.glob("*.gltf")
    document = json.loads(gltf.read_text())
    for image in document["images"]:
        image.clear()
        image["uri"] = "maps/my%20skin.png"
    gltf.write_text(json.dumps(document))
    (part,) = read_mesh(gltf).parts
    assert part.texture is not None
    np.testing.assert_array_equal(part.texture[0, 0], [200, 100, 50, 255])


def broken_files(folder: Path) -> dict[str, str]:
    """File names and what their error must say."""
    (folder / "folder.glb").mkdir()
    (folder / "words.txt").write_text("not a mesh")
    (folder / "words.glb").write_text("not a mesh")
    (folder / "words.obj").write_text("not a mesh")
    (folder / "words.ply").write_text("not a mesh")
    (folder / "words.gltf").write_text("not a mesh")
    (folder / "empty.glb").touch()
    whole = textured_square().export(file_type="glb")
    (folder / "cut.glb").write_bytes(whole[: len(whole) // 2])
    trimesh.PointCloud(np.random.default_rng(0).normal(size=(9, 3))).export(folder / "points.ply")
    (folder / "nan.obj").write_text("v 0 0 0\nv 1 nan 0\nv 1 1 0\nf 1 2 3\n")
    (folder / "dot.obj").write_text("v 1 1 1\nv 1 1 1\nv 1 1 1\nf 1 2 3\n")
    corrupt = bytearray(gltf_of(trimesh.creation.box()))
    indices = corrupt.index(b"BIN\0") + 4
    corrupt[indices : indices + 400] = b"\xff" * 400
    (folder / "corrupt.glb").write_bytes(corrupt)
    picture = whole.index(b"\x89PNG")
    (folder / "header.glb").write_bytes(whole[:picture] + b"garbage!" + whole[picture + 8 :])
    pixels = whole.index(b"IDAT")
    (folder / "pixels.glb").write_bytes(whole[: pixels + 4] + b"garbage!" + whole[pixels + 12 :])
    nowhere, outside = ({"images": [{"uri": uri}]} for uri in ("skin.png", "../secret.png"))
    (folder / "nowhere.glb").write_bytes(gltf_of(textured_square(), **nowhere))
    (folder / "outside.glb").write_bytes(gltf_of(textured_square(), **outside))
    ktx = {"textures": [{"extensions": {"KHR_texture_basisu": {"source": 0}}}]}
    (folder / "ktx.glb").write_bytes(gltf_of(textured_square(), **ktx))
    (folder / "buffer.gltf").write_text(
        json.dumps({"asset": {"version": "2.0"}, "buffers": [{"uri": "gone.bin", "byteLength": 4}], "meshes": []})
    )
    unwrapped = textured_square()
    unwrapped.visual.uv[1] = np.nan
    (folder / "uv.glb").write_bytes(gltf_of(unwrapped))
    write_obj(folder, "library", None)
    write_obj(folder, "texture", "map_Kd skin.png")
    write_obj(folder, "climbing", "map_Kd ../../etc/x.png")
    write_obj(folder, "absolute", "map_Kd /etc/passwd")
    write_obj(folder, "drive", "map_Kd C:\\secrets\\x.png")
    write_obj(folder, "words_texture", "map_Kd words.txt")
    (folder / "line.obj").write_text("v 0 0 0\nv 1 1 1\nv 3 3 3\nf 1 2 3\n")
    (folder / "textured.ply").write_text(
        "ply\nformat ascii 1.0\ncomment TextureFile gone.png\nelement vertex 3\nproperty float x\nproperty float y\n"
        "property float z\nproperty float s\nproperty float t\nelement face 1\n"
        "property list uchar int vertex_indices\nend_header\n0 0 0 0 0\n1 0 0 1 0\n1 1 0 1 1\n3 0 1 2\n"
    )
    return {
        "corrupt.glb": "cannot be read as a mesh|NaN",
        "header.glb": "texture .* that is damaged or no picture",
        "pixels.glb": "cannot be read as a mesh",
        "nowhere.glb": "names the file 'skin.png', which is missing",
        "outside.glb": "names the file '../secret.png', which is outside its folder",
        "ktx.glb": "texture in a format other than PNG",
        "buffer.gltf": "names the file 'gone.bin', which is missing",
        "uv.glb": r"texture coordinates that are NaN or infinite \(1 of 6\)",
        "library.obj": "names the file 'library.mtl', which is missing",
        "texture.obj": "names the file 'skin.png', which is missing",
        "climbing.obj": "names the file '../../etc/x.png', which is outside its folder",
        "absolute.obj": "names the file '/etc/passwd', which is outside its folder",
        "drive.obj": "names the file 'C:.*x.png', which is outside its folder",
        "words_texture.obj": "names the file 'words.txt', which is no picture",
        "line.obj": "zero extent",
        "textured.ply": "names the file 'gone.png', which is missing",
        "missing.glb": "does not exist",
        "folder.glb": "not a file",
        "words.txt": "not one of the mesh formats",
        "words.glb": "cannot be read as a mesh",
        "words.obj": "no faces",
        "words.ply": "cannot be read as a mesh",
        "words.gltf": "cannot be read as a mesh",
        "empty.glb": "cannot be read as a mesh",
        "cut.glb": "cannot be read as a mesh",
        "points.ply": "no faces",
        "nan.obj": "NaN",
        "dot.obj": "zero extent",
    }


def test_broken_files_get_one_sentence_each(tmp_path: Path) -> None:
    for name, said in broken_files(tmp_path).items():
        with pytest.raises(MeshError, match=said) as caught:
            read_mesh(tmp_path / name)
        message = str(caught.value)
        assert name in message
        assert message.endswith(".")
        assert "\n" not in message


def test_unknown_up_axis(tmp_path: Path) -> None:
    with pytest.raises(MeshError, match="`up`"):
        read_mesh(tmp_path / "m.glb", up="x")  # type: ignore[arg-type]


def test_textures_of_gazebos_layout_are_found(tmp_path: Path) -> None:
    """As Google's scans come: ``NAME/meshes/model.obj``, ``NAME/materials/textures/texture.png``."""
    meshes, textures = tmp_path / "CAT" / "meshes", tmp_path / "CAT" / "materials" / "textures"
    meshes.mkdir(parents=True)
    write_obj(meshes, "model", "map_Kd texture.png")
    with pytest.raises(MeshError, match=r"names the file 'texture.png', which is missing"):
        read_mesh(meshes / "model.obj")
    textures.mkdir(parents=True)
    Image.new("RGB", (2, 2), "red").save(textures / "texture.png")
    [part] = read_mesh(meshes / "model.obj").parts
    assert part.texture is not None
    np.testing.assert_array_equal(part.texture[0, 0], [255, 0, 0, 255])
    (meshes / "model.mtl").write_text("newmtl a\nmap_Kd ../materials/textures/texture.png\n")
    assert read_mesh(meshes / "model.obj").parts[0].texture is not None
    (meshes / "model.mtl").write_text("newmtl a\nmap_Kd ../../secret.png\n")
    with pytest.raises(MeshError, match="outside its folder"):
        read_mesh(meshes / "model.obj")
