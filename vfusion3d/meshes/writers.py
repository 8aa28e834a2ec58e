"""Meshes with a texture or vertex colours to GLB, OBJ, PLY and STL files.

GLB, OBJ and PLY are +Y up, front +Z, as glTF prescribes and `read_mesh` expects; PLY has vertex colours only. STL, the
format of 3D printing, keeps the world's axes, +Z up and front +X, has no colours, and is in millimetres.
Every file is written under a temporary name and renamed, so a reader never sees half of one.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from vfusion3d.errors import MeshError, UsageError
from vfusion3d.meshes import MESH_FORMATS
from vfusion3d.outputs import write_atomically


class ColouredMesh(Protocol):
    """What is written: world coordinates (+Z up, front +X), faces counter-clockwise seen from outside."""

    @property
    def vertices(self) -> np.ndarray:
        """World units, ``[N, 3]``."""

    @property
    def faces(self) -> np.ndarray:
        """Vertex numbers, ``[M, 3]``."""

    @property
    def colours(self) -> np.ndarray:
        """sRGB, uint8, ``[N, 3]``."""

    @property
    def normals(self) -> np.ndarray:
        """Unit vectors, ``[N, 3]``."""

    @property
    def uv(self) -> np.ndarray | None:
        """Texture coordinates with v pointing up, ``[N, 2]``, or None."""

    @property
    def texture(self) -> np.ndarray | None:
        """sRGB, uint8, ``[H, W, 3]``, row 0 at v = 1, or None."""


MATERIAL = "object"
MILLIMETRES = 100.0
"""Longest side of a printed object."""


def write_mesh(mesh: ColouredMesh, path: str | Path, millimetres: float = MILLIMETRES) -> list[Path]:
    """Write a mesh in the format of the file's ending.

    Args:
        mesh: The mesh, in world coordinates; its texture is written where it has one, else its vertices' colours.
        path: A file ending in ``.glb``, ``.obj`` (with a texture, the ``.mtl`` and ``.png`` of its name are written
            beside it), ``.ply`` or ``.stl``.
        millimetres: Longest side of the object in an STL file.

    Returns:
        The files written, ``path`` last.

    Raises:
        UsageError: if the ending is another, or ``millimetres`` is not positive.
        MeshError: if the mesh has no faces or contains NaN.
        OutputError: if the file cannot be written.
    """
    path = Path(path)
    kind = path.suffix.lower().lstrip(".")
    if kind not in MESH_FORMATS:
        raise UsageError(f"Mesh format '{path.suffix}' is unknown; choose one of {', '.join(MESH_FORMATS)}.")
    if not 0 < millimetres < float("inf"):
        raise UsageError(f"Argument `millimetres` must be a positive length, but got {millimetres}.")
    if len(mesh.faces) == 0:
        raise MeshError(f"The mesh for '{path.name}' has no faces, so there is nothing to write.")
    if not np.isfinite(mesh.vertices).all():
        raise MeshError(f"The mesh for '{path.name}' has vertices with NaN or infinite coordinates.")
    files: dict[Path, bytes] = {}
    if kind == "obj" and mesh.texture is not None:
        files[path.with_suffix(".png")] = encode_png(mesh.texture)
        files[path.with_suffix(".mtl")] = encode_mtl(path.stem)
    encoders: dict[str, Callable[[ColouredMesh], bytes]] = {
        "glb": encode_glb,
        "obj": partial(encode_obj, materials=path.stem),
        "ply": encode_ply,
        "stl": partial(encode_stl, millimetres=millimetres),
    }
    files[path] = encoders[kind](mesh)
    for file, content in files.items():
        write_atomically(file, content)
    return list(files)


def to_y_up(vectors: np.ndarray) -> np.ndarray:
    """World (x, y, z) to glTF (y, z, x): +Z up becomes +Y up and the front +X becomes +Z."""
    return np.ascontiguousarray(vectors[:, [1, 2, 0]])


def srgb_to_linear(colours: np.ndarray) -> np.ndarray:
    """Display colours in [0, 1] to linear light (IEC 61966-2-1)."""
    return np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)


def encode_glb(mesh: ColouredMesh) -> bytes:
    """A binary glTF 2.0 file: one mesh with one rough dielectric material.

    Its colour is a PNG texture inside the file, or without one the vertices' COLOR_0 (linear, as glTF asks).
    """
    from vfusion3d import __version__

    positions = to_y_up(mesh.vertices).astype("<f4")
    arrays = [
        (positions, "VEC3", 5126, 34962),
        (to_y_up(mesh.normals).astype("<f4"), "VEC3", 5126, 34962),
        (mesh.faces.astype("<u4").reshape(-1), "SCALAR", 5125, 34963),
    ]
    if mesh.texture is None:
        light = srgb_to_linear(mesh.colours.astype(np.float64) / 255)
        # 16 bits, because 8 linear bits would band in the dark; four channels keep rows aligned to four bytes.
        colours = np.full((len(light), 4), 65535, dtype="<u2")
        colours[:, :3] = np.round(light * 65535)
        arrays.append((colours, "VEC4", 5123, 34962))
    else:
        assert mesh.uv is not None
        downwards = np.stack([mesh.uv[:, 0], 1 - mesh.uv[:, 1]], axis=-1)  # glTF's v points down
        arrays.append((downwards.astype("<f4"), "VEC2", 5126, 34962))
    views, accessors, blobs, offset = [], [], [], 0
    for number, (array, kind, component, target) in enumerate(arrays):
        blob = array.tobytes()
        views.append({"buffer": 0, "byteOffset": offset, "byteLength": len(blob), "target": target})
        accessors.append({"bufferView": number, "componentType": component, "count": len(array), "type": kind})
        blobs.append(blob)
        offset += len(blob)
    accessors[0] |= {"min": positions.min(0).tolist(), "max": positions.max(0).tolist()}
    material: dict[str, Any] = {"metallicFactor": 0.0, "roughnessFactor": 1.0}
    extra: dict[str, Any] = {}
    if mesh.texture is None:
        accessors[3]["normalized"] = True
    else:
        picture = encode_png(mesh.texture)
        views.append({"buffer": 0, "byteOffset": offset, "byteLength": len(picture)})
        blobs.append(picture + b"\0" * (-len(picture) % 4))
        offset += len(blobs[-1])
        material["baseColorTexture"] = {"index": 0}
        extra = {
            "images": [{"bufferView": len(views) - 1, "mimeType": "image/png"}],
            # Linear filtering with mip maps, and no wrapping around.
            "samplers": [{"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}],
            "textures": [{"source": 0, "sampler": 0}],
        }
    look = {"COLOR_0": 3} if mesh.texture is None else {"TEXCOORD_0": 3}
    document = {
        "asset": {"version": "2.0", "generator": f"vfusion3d {__version__}"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "object"}],
        "meshes": [
            {
                "primitives": [
                    {"attributes": {"POSITION": 0, "NORMAL": 1, **look}, "indices": 2, "material": 0, "mode": 4}
                ]
            }
        ],
        "materials": [{"pbrMetallicRoughness": material}],
        **extra,
        "buffers": [{"byteLength": offset}],
        "bufferViews": views,
        "accessors": accessors,
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    body = b"".join(blobs)
    header = struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + len(body))
    return header + struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(body), b"BIN\0") + body


def encode_obj(mesh: ColouredMesh, materials: str = "mesh") -> bytes:
    """A Wavefront OBJ file: textured by ``materials``.mtl, or with the common ``v x y z r g b`` for sRGB colours."""
    lines = ["# vfusion3d: +Y up, front +Z"]
    places = to_y_up(mesh.vertices)
    if mesh.texture is None:
        rows = np.concatenate([places, mesh.colours / 255], axis=1)
        lines += [f"v {x:.6f} {y:.6f} {z:.6f} {r:.4f} {g:.4f} {b:.4f}" for x, y, z, r, g, b in rows.tolist()]
        corner = "{0}//{0}"
    else:
        assert mesh.uv is not None
        lines += [f"mtllib {materials}.mtl", f"usemtl {MATERIAL}"]
        lines += [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in places.tolist()]
        lines += [f"vt {u:.6f} {v:.6f}" for u, v in mesh.uv.tolist()]
        corner = "{0}/{0}/{0}"
    lines += [f"vn {x:.4f} {y:.4f} {z:.4f}" for x, y, z in to_y_up(mesh.normals).tolist()]
    lines += ["f " + " ".join(corner.format(number) for number in face) for face in (mesh.faces + 1).tolist()]
    return ("\n".join(lines) + "\n").encode()


def encode_mtl(stem: str) -> bytes:
    """The material of a textured OBJ file; the texture is ``stem``.png beside it."""
    lines = ["# vfusion3d", f"newmtl {MATERIAL}", "Ka 0 0 0", "Kd 1 1 1", "Ks 0 0 0", "illum 1", f"map_Kd {stem}.png"]
    return ("\n".join(lines) + "\n").encode()


def encode_png(pixels: np.ndarray) -> bytes:
    """A PNG file of sRGB pixels, uint8 ``[H, W, 3]``."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def encode_ply(mesh: ColouredMesh) -> bytes:
    """A binary PLY file with normals and sRGB vertex colours."""
    names = ["x", "y", "z", "nx", "ny", "nz"]
    vertices = np.empty(
        len(mesh.vertices), dtype=[(n, "<f4") for n in names] + [(n, "u1") for n in ("red", "green", "blue")]
    )
    positions, normals = to_y_up(mesh.vertices), to_y_up(mesh.normals)
    for k in range(3):
        vertices[names[k]] = positions[:, k]
        vertices[names[3 + k]] = normals[:, k]
        vertices[("red", "green", "blue")[k]] = mesh.colours[:, k]
    faces = np.empty(len(mesh.faces), dtype=[("count", "u1"), ("index", "<i4", 3)])
    faces["count"], faces["index"] = 3, mesh.faces
    header = ["ply", "format binary_little_endian 1.0", "comment vfusion3d: +Y up, front +Z"]
    header += [f"element vertex {len(vertices)}", *(f"property float {n}" for n in names)]
    header += [f"property uchar {n}" for n in ("red", "green", "blue")]
    header += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header"]
    return ("\n".join(header) + "\n").encode() + vertices.tobytes() + faces.tobytes()


def encode_stl(mesh: ColouredMesh, millimetres: float = MILLIMETRES) -> bytes:
    """A binary STL file (shape only), in world axes, ``millimetres`` along its longest side."""
    scale = millimetres / max(float(np.ptp(mesh.vertices, axis=0).max()), 1e-12)
    corners = (mesh.vertices * scale).astype("<f4")[mesh.faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    rows = np.zeros(len(corners), dtype=[("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("spare", "<u2")])
    rows["normal"] = normal / np.where(length > 0, length, 1)
    rows["corners"] = corners
    return b"vfusion3d: millimetres, +Z up, front +X".ljust(80) + struct.pack("<I", len(rows)) + rows.tobytes()
