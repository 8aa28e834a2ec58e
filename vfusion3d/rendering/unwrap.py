"""Texture coordinates for a triangle mesh, in bounded time."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Literal, NamedTuple

import numpy as np

UNWRAP_SECONDS = 60.0
"""Time that charts may take before every two faces get a square of their own."""

Unwrapping = Literal["charts", "squares"]

# In a process of its own, because xatlas can neither be interrupted nor trusted to end.
_CHARTS = """
import io, sys
import numpy as np, xatlas
arrays = np.load(io.BytesIO(sys.stdin.buffer.read()))
atlas = xatlas.Atlas()
atlas.add_mesh(arrays["vertices"], arrays["faces"])
packing = xatlas.PackOptions()
packing.padding = 2
atlas.generate(xatlas.ChartOptions(), packing)
if atlas.atlas_count != 1:
    sys.exit("more than one texture")
original, faces, uv = atlas[0]
result = io.BytesIO()
np.savez(result, original=original, faces=faces, uv=uv)
sys.stdout.buffer.write(result.getvalue())
"""


class Atlas(NamedTuple):
    """A mesh cut open and laid flat in the unit square."""

    original: np.ndarray
    """Number of the uncut mesh's vertex for each of ``K`` vertices, int64, ``[K]``."""
    faces: np.ndarray
    """Numbers of the ``K`` vertices, in the uncut mesh's order of faces, int32, ``[M, 3]``."""
    uv: np.ndarray
    """Texture coordinates with v pointing up, float32 in [0, 1], ``[K, 2]``."""
    method: Unwrapping
    """``charts`` (xatlas), or ``squares`` where that failed or took too long."""


def unwrap(vertices: np.ndarray, faces: np.ndarray, seconds: float = UNWRAP_SECONDS) -> Atlas:
    """Cut a mesh into charts with little distortion (xatlas), or fall back on `squares`.

    Args:
        vertices: ``[N, 3]``.
        faces: ``[M, 3]``.
        seconds: Wall-clock time after which the charts are given up.

    Returns:
        The atlas; charts are two texels apart in a texture of 1024 texels a side.
    """
    arrays = io.BytesIO()
    np.savez(arrays, vertices=vertices.astype(np.float32), faces=faces.astype(np.uint32))
    try:
        done = subprocess.run(
            [sys.executable, "-c", _CHARTS], input=arrays.getvalue(), capture_output=True, timeout=seconds, check=True
        )
        found = np.load(io.BytesIO(done.stdout))
        atlas = Atlas(found["original"].astype(np.int64), found["faces"].astype(np.int32), found["uv"], "charts")
    except (subprocess.SubprocessError, OSError, ValueError, KeyError):
        return squares(faces)
    return atlas if len(atlas.faces) == len(faces) and np.isfinite(atlas.uv).all() else squares(faces)


def squares(faces: np.ndarray, gap: float = 0.1) -> Atlas:
    """Every two faces share a square: seams everywhere, but at once and for any mesh.

    Args:
        faces: ``[M, 3]``.
        gap: Share of a square's side left free around each face.
    """
    count = len(faces)
    side = max(1, int(np.ceil(np.sqrt((count + 1) // 2))))
    number = np.arange(count) // 2
    origin = np.stack([number % side, number // side], axis=-1)
    half = np.array([[gap, gap], [1 - 2.5 * gap, gap], [gap, 1 - 2.5 * gap]])
    corners = np.where((np.arange(count) % 2 == 0)[:, None, None], half, 1 - half)
    uv = ((origin[:, None] + corners) / side).reshape(-1, 2).astype(np.float32)
    return Atlas(faces.reshape(-1).astype(np.int64), np.arange(3 * count, dtype=np.int32).reshape(-1, 3), uv, "squares")
