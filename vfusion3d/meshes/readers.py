"""GLB, glTF, OBJ and PLY files -> `Mesh` in the world frame."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import numpy as np

from vfusion3d.errors import MeshError
from vfusion3d.meshes.companions import Companions
from vfusion3d.meshes.gltf import GltfFile
from vfusion3d.meshes.mesh import AlphaMode, Mesh, MeshPart
from vfusion3d.poly_data import poly_data

if TYPE_CHECKING:
    import trimesh

MESH_SUFFIXES = (".glb", ".gltf", ".obj", ".ply")

UpAxis = Literal["y", "z"]

_CREASE_DEGREES = 40.0  # faces that meet at a sharper angle keep an edge when a file brings no normals


def read_mesh(path: str | os.PathLike[str], up: UpAxis = "y") -> Mesh:
    """Read a mesh with its base-colour textures, base-colour factors and vertex colours.

    The base colour is all that is read of a material: no metalness, roughness, emission or normal maps.

    Args:
        path: A ``.glb``, ``.gltf``, ``.obj`` or ``.ply`` file; textures beside it are found.
        up: The file's up axis. ``y``, what glTF prescribes and what OBJ and PLY files mostly mean: the file's
            front is its +Z and ``(x, y, z)`` becomes world ``(z, x, y)``. ``z``: the file is in the world
            frame already (+Z up, front +X) and nothing is turned.

    Returns:
        The mesh in world axes and the file's units, not normalised, with float64 vertices, so that a mesh far from
        its origin keeps its details. Where a file brings no normals they are computed, smooth but for creases of
        more than 40 degrees. Faces without area are left out; of a glTF file only the default scene is read, in
        its rest pose. `Mesh.notes` says so where something was left out.

    Raises:
        MeshError: if the file is missing, damaged or not a mesh; if it has no faces with an area, or vertices or
            texture coordinates that are NaN; if it names a texture or another file that is missing, damaged, or
            outside the mesh's folder.
    """
    path = Path(path)
    if up not in ("y", "z"):
        raise MeshError(f"Argument `up` must be 'y' or 'z', but got {up!r}.")
    if not path.is_file():
        raise MeshError(f"The mesh {path} does not exist or is not a file; check the path.")
    if path.suffix.lower() not in MESH_SUFFIXES:
        raise MeshError(f"The file {path} is not one of the mesh formats {', '.join(MESH_SUFFIXES)}; convert it first.")
    gltf = GltfFile.load(path) if path.suffix.lower() in (".glb", ".gltf") else None
    parts, faces = [], 0
    try:
        for geometry, matrix in _triangles(path, gltf):
            faces += len(geometry.faces)
            if (part := _part(path, geometry, matrix, up, gltf is not None)) is not None:
                parts.append(part)
    except MeshError:
        raise
    except Exception as error:  # trimesh and Pillow raise whatever a broken file happens to trigger
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise MeshError(f"The file {path} cannot be read as a mesh ({reason}); export it again.") from error
    if not faces:
        raise MeshError(f"The mesh {path} has no faces; export it with triangles.")
    if not parts:
        raise MeshError(f"The mesh {path} has zero extent (no face has an area); nothing of it can be seen.")
    notes = () if gltf is None else gltf.notes()
    if flat := faces - sum(len(part.faces) for part in parts):
        notes += (f"The mesh {path} has faces of zero area ({flat} of {faces}), which were left out.",)
    return Mesh(
        tuple(parts),
        name=path.stem,
        licence=None if gltf is None else gltf.licence,
        caption=None if gltf is None else gltf.caption,
        notes=notes,
    )


def _triangles(path: Path, gltf: GltfFile | None) -> list[tuple[trimesh.Trimesh, np.ndarray]]:
    """The triangle meshes of a file and their local-to-world matrices, before any processing.

    Raises:
        MeshError: naming another file that cannot be used.
        Exception: what a broken file triggers.
    """
    import trimesh

    companions = Companions(path)
    if gltf is not None:
        gltf.check_textures(companions)
    companions.problems.clear()
    try:
        # Merging vertices (process=True) would pull UV seams together.
        scene = trimesh.load_scene(path, process=False, resolver=cast(Any, companions))
    except Exception as error:
        for problem in companions.problems.values():
            raise MeshError(f"The mesh {path} {problem}.") from error
        raise
    if gltf is None:  # of a glTF file all that counts was checked above
        companions.check_pictures()
        for problem in companions.problems.values():
            raise MeshError(f"The mesh {path} {problem}.")
    found = []
    for node in scene.graph.nodes_geometry:
        matrix, name = scene.graph[node]
        geometry = scene.geometry[name]
        if isinstance(geometry, trimesh.Trimesh) and len(geometry.faces):
            if isinstance(geometry.visual, trimesh.visual.ColorVisuals) and geometry.visual.kind == "face":
                geometry.unmerge_vertices()  # so that a vertex has one colour
            found.append((geometry, np.asarray(matrix, dtype=np.float64)))
    return found


def _part(path: Path, geometry: trimesh.Trimesh, matrix: np.ndarray, up: UpAxis, gltf: bool) -> MeshPart | None:
    """The faces of a geometry that have an area, in the world; None if there are none.

    Raises:
        MeshError: if they refer to positions or texture coordinates that are NaN or infinite.
    """
    vertices = np.asarray(geometry.vertices, dtype=np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
    faces = np.asarray(geometry.faces, dtype=np.int64)
    # A private look: the public property computes normals where the file has none, and not across UV seams.
    normals = None
    if "vertex_normals" in geometry._cache:
        normals = np.asarray(geometry.vertex_normals, dtype=np.float64) @ np.linalg.pinv(matrix[:3, :3])
    if np.linalg.det(matrix[:3, :3]) < 0:
        faces = faces[:, ::-1]
    if up == "y":
        vertices = vertices[:, [2, 0, 1]]
        normals = None if normals is None else normals[:, [2, 0, 1]]
    if not np.isfinite(vertices[faces]).all():
        raise MeshError(f"The mesh {path} has vertices that are NaN or infinite; repair it first.")
    faces = faces[_has_area(vertices, faces)]
    if not len(faces):
        return None

    look = _look(geometry, gltf)
    used, faces = np.unique(faces, return_inverse=True)
    faces = faces.reshape(-1, 3)
    vertices, colors = vertices[used], look.colours[used]
    uv = None if look.uv is None else look.uv[used]
    if uv is not None and not np.isfinite(uv).all():
        bad = int((~np.isfinite(uv)).any(1).sum())
        raise MeshError(
            f"The mesh {path} has texture coordinates that are NaN or infinite ({bad} of {len(uv)}); unwrap it again."
        )
    if normals is None:
        corner_normals = _creased_normals(vertices, faces)
        corners = faces.reshape(-1)
        vertices, colors, uv = vertices[corners], colors[corners], None if uv is None else uv[corners]
        normals, faces = corner_normals, np.arange(len(corners)).reshape(-1, 3)
    else:
        normals = normals[used]
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = np.where(length > 0, normals / np.where(length > 0, length, 1), [0.0, 0.0, 1.0])
    return MeshPart(
        vertices=vertices,
        faces=_wound_along(vertices, faces, normals),
        normals=normals.astype(np.float32),
        colours=colors,
        uv=uv,
        texture=look.texture,
        alpha=look.alpha,
        alpha_cutoff=look.alpha_cutoff,
    )


def _has_area(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """``[F]`` bool: False where corners coincide or lie on a line, up to rounding."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    extent = float(np.ptp(vertices[faces].reshape(-1, 3), axis=0).max())
    return np.linalg.norm(np.cross(b - a, c - a), axis=1) > 1e-14 * extent**2


def _wound_along(vertices: np.ndarray, faces: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Faces turned over where their winding contradicts their vertex normals (renderers trust the winding)."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    against = (np.cross(b - a, c - a) * normals[faces].sum(1)).sum(1) < 0
    return np.where(against[:, None], faces[:, ::-1], faces)


def _creased_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals ``[3 F, 3]`` of the faces' corners, smooth across UV seams, split at creases."""
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkFiltersCore import vtkPolyDataNormals

    positions, welded = np.unique(vertices, axis=0, return_inverse=True)
    smooth = vtkPolyDataNormals()
    smooth.SetInputData(poly_data(positions, welded.reshape(-1)[faces]))
    smooth.SetFeatureAngle(_CREASE_DEGREES)
    smooth.SplittingOn()
    smooth.ConsistencyOff()  # keeps the faces' order and winding
    smooth.Update()
    result = smooth.GetOutput()
    normals = vtk_to_numpy(result.GetPointData().GetNormals()).astype(np.float64)
    return normals[vtk_to_numpy(result.GetPolys().GetConnectivityArray())]


class _Look(NamedTuple):
    """What a part looks like, in `MeshPart`'s conventions."""

    colours: np.ndarray
    uv: np.ndarray | None = None
    texture: np.ndarray | None = None
    alpha: AlphaMode = "opaque"
    alpha_cutoff: float = 0.5


def _look(geometry: trimesh.Trimesh, gltf: bool) -> _Look:
    import trimesh

    visual: Any = geometry.visual
    count = len(geometry.vertices)
    if isinstance(visual, trimesh.visual.TextureVisuals):
        return _gltf_look(visual, count) if gltf else _simple_look(visual, count)
    if not visual.defined:
        return _Look(np.full((count, 4), 255, dtype=np.uint8))
    colors = np.asarray(visual.vertex_colors, dtype=np.uint8)
    return _Look(_srgb_from_linear(colors / 255.0) if gltf else colors)


def _gltf_look(visual: Any, count: int) -> _Look:
    """Factor x texture x vertex colours, multiplied in linear light as glTF prescribes."""
    material = visual.material
    factor = np.ones(4) if material.baseColorFactor is None else np.asarray(material.baseColorFactor) / 255.0
    texture = uv = None
    if material.baseColorTexture is not None and visual.uv is not None:
        texture = np.asarray(material.baseColorTexture.convert("RGBA"))
        uv = np.asarray(visual.uv, dtype=np.float32)
        if (factor != 1.0).any():
            texture = _srgb_from_linear(_linear_from_srgb(texture) * factor)
        factor = np.ones(4)
    colors = np.tile(factor, (count, 1))
    vertex_colors = visual.vertex_attributes.get("color")
    if vertex_colors is not None:
        colors = colors * _unit_rgba(np.asarray(vertex_colors))
    modes: dict[str | None, AlphaMode] = {"MASK": "mask", "BLEND": "blend"}
    cutoff = 0.5 if material.alphaCutoff is None else float(material.alphaCutoff)
    return _Look(_srgb_from_linear(colors), uv, texture, modes.get(material.alphaMode, "opaque"), cutoff)


def _simple_look(visual: Any, count: int) -> _Look:
    """The texture of an OBJ or PLY, or else its diffuse colour (many exporters write a grey Kd beside a texture)."""
    if visual.material.image is not None and visual.uv is not None:
        texture = np.asarray(visual.material.image.convert("RGBA"))
        uv = np.asarray(visual.uv, dtype=np.float32)
        return _Look(np.full((count, 4), 255, dtype=np.uint8), uv, texture)
    return _Look(np.tile(np.asarray(visual.material.diffuse, dtype=np.uint8), (count, 1)))


def _unit_rgba(colors: np.ndarray) -> np.ndarray:
    """RGB or RGBA of any glTF component type as ``[V, 4]`` in [0, 1]."""
    scale = np.iinfo(colors.dtype).max if np.issubdtype(colors.dtype, np.integer) else 1.0
    rgba = np.ones((len(colors), 4))
    rgba[:, : colors.shape[1]] = colors / scale
    return rgba


def _linear_from_srgb(rgba: np.ndarray) -> np.ndarray:
    """``[..., 4]`` uint8 sRGB with straight alpha -> linear light in [0, 1]."""
    value = rgba / 255.0
    value[..., :3] = np.where(
        value[..., :3] <= 0.04045, value[..., :3] / 12.92, ((value[..., :3] + 0.055) / 1.055) ** 2.4
    )
    return value


def _srgb_from_linear(rgba: np.ndarray) -> np.ndarray:
    """Inverse of `_linear_from_srgb`, clipped and rounded to uint8."""
    value = np.clip(rgba, 0.0, 1.0)
    rgb = value[..., :3]
    encoded = np.where(rgb <= 0.0031308, rgb * 12.92, 1.055 * rgb ** (1 / 2.4) - 0.055)
    return np.rint(np.concatenate([encoded, value[..., 3:]], -1) * 255).astype(np.uint8)
