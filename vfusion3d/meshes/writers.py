"""Meshes with vertex colours to GLB, OBJ, PLY and STL files.

GLB, OBJ and PLY are +Y up, front +Z, as glTF prescribes and `read_mesh` expects. STL, the format of 3D
printing, keeps the world's axes: +Z up, front +X.
Every file is written under a temporary name and renamed, so a reader never sees half of one.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from vfusion3d.errors import MeshError, UsageError
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


def write_mesh(mesh: ColouredMesh, path: str | Path) -> None:
    """Write a mesh in the format of the file's ending.

    Args:
        mesh: The mesh, in world coordinates.
        path: A file ending in ``.glb``, ``.obj``, ``.ply`` or ``.stl``.

    Raises:
        UsageError: if the ending is another.
        MeshError: if the mesh has no faces or contains NaN.
        OutputError: if the file cannot be written.
    """
    path = Path(path)
    encode = WRITERS.get(path.suffix.lower().lstrip("."))
    if encode is None:
        raise UsageError(f"Mesh format '{path.suffix}' is unknown; choose one of {', '.join(WRITERS)}.")
    if len(mesh.faces) == 0:
        raise MeshError(f"The mesh for '{path.name}' has no faces, so there is nothing to write.")
    if not np.isfinite(mesh.vertices).all():
        raise MeshError(f"The mesh for '{path.name}' has vertices with NaN or infinite coordinates.")
    write_atomically(path, encode(mesh))


def to_y_up(vectors: np.ndarray) -> np.ndarray:
    """World (x, y, z) to glTF (y, z, x): +Z up becomes +Y up and the front +X becomes +Z."""
    return np.ascontiguousarray(vectors[:, [1, 2, 0]])


def srgb_to_linear(colours: np.ndarray) -> np.ndarray:
    """Display colours in [0, 1] to linear light (IEC 61966-2-1)."""
    return np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)


def encode_glb(mesh: ColouredMesh) -> bytes:
    """A binary glTF 2.0 file: one mesh, one rough dielectric material, colours in COLOR_0 (linear, as glTF asks)."""
    from vfusion3d import __version__

    positions = to_y_up(mesh.vertices).astype("<f4")
    light = srgb_to_linear(mesh.colours.astype(np.float64) / 255)
    # 16 bits, because 8 linear bits would band in the dark; four channels keep rows aligned to four bytes.
    colours = np.full((len(light), 4), 65535, dtype="<u2")
    colours[:, :3] = np.round(light * 65535)
    arrays = [
        (positions, "VEC3", 5126, 34962),
        (to_y_up(mesh.normals).astype("<f4"), "VEC3", 5126, 34962),
        (colours, "VEC4", 5123, 34962),
        (mesh.faces.astype("<u4").reshape(-1), "SCALAR", 5125, 34963),
    ]
    views, accessors, blobs, offset = [], [], [], 0
    for number, (array, kind, component, target) in enumerate(arrays):
        blob = array.tobytes()
        views.append({"buffer": 0, "byteOffset": offset, "byteLength": len(blob), "target": target})
        accessors.append({"bufferView": number, "componentType": component, "count": len(array), "type": kind})
        blobs.append(blob)
        offset += len(blob)
    accessors[0] |= {"min": positions.min(0).tolist(), "max": positions.max(0).tolist()}
    accessors[2]["normalized"] = True
    document = {
        "asset": {"version": "2.0", "generator": f"vfusion3d {__version__}"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "object"}],
        "meshes": [
            {
                "primitives": [
                    {"attributes": {"POSITION": 0, "NORMAL": 1, "COLOR_0": 2}, "indices": 3, "material": 0, "mode": 4}
                ]
            }
        ],
        "materials": [{"pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0}}],
        "buffers": [{"byteLength": offset}],
        "bufferViews": views,
        "accessors": accessors,
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    body = b"".join(blobs)
    header = struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + len(body))
    return header + struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(body), b"BIN\0") + body


def encode_obj(mesh: ColouredMesh) -> bytes:
    """A Wavefront OBJ file with the common ``v x y z r g b`` extension for sRGB vertex colours."""
    rows = np.concatenate([to_y_up(mesh.vertices), mesh.colours / 255], axis=1)
    lines = ["# vfusion3d: +Y up, front +Z, sRGB vertex colours"]
    lines += [f"v {x:.6f} {y:.6f} {z:.6f} {r:.4f} {g:.4f} {b:.4f}" for x, y, z, r, g, b in rows.tolist()]
    lines += [f"vn {x:.4f} {y:.4f} {z:.4f}" for x, y, z in to_y_up(mesh.normals).tolist()]
    lines += [f"f {a}//{a} {b}//{b} {c}//{c}" for a, b, c in (mesh.faces + 1).tolist()]
    return ("\n".join(lines) + "\n").encode()


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


def encode_stl(mesh: ColouredMesh) -> bytes:
    """A binary STL file (shape only), in world axes."""
    corners = mesh.vertices[mesh.faces].astype("<f4")
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    rows = np.zeros(len(corners), dtype=[("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("spare", "<u2")])
    rows["normal"] = normal / np.where(length > 0, length, 1)
    rows["corners"] = corners
    return b"vfusion3d: +Z up, front +X".ljust(80) + struct.pack("<I", len(rows)) + rows.tobytes()


WRITERS: dict[str, Callable[[ColouredMesh], bytes]] = {
    "glb": encode_glb,
    "obj": encode_obj,
    "ply": encode_ply,
    "stl": encode_stl,
}
