"""A textured mesh in memory, in the library's world frame."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

AlphaMode = Literal["opaque", "mask", "blend"]


@dataclass(frozen=True)
class MeshPart:
    """Triangles that share one material.

    Args:
        vertices: ``[V, 3]`` float32, or float64 from `read_mesh`, world units. Vertices on UV seams and creases
            appear once per side.
        faces: ``[F, 3]`` int64, counter-clockwise seen from the side the normals point to.
        normals: ``[V, 3]`` float32, unit length.
        colours: ``[V, 4]`` uint8 RGBA, sRGB encoded, straight alpha; multiplies the texture.
        uv: ``[V, 2]`` float32 with v pointing up, or None without a texture.
        texture: ``[H, W, 4]`` uint8 RGBA, sRGB encoded, straight alpha, row 0 at the top (v = 1), or None.
        alpha: What the alpha of colours and texture means, as in glTF: ``opaque`` ignores it, ``mask`` keeps
            what reaches ``alpha_cutoff``, ``blend`` is translucent.
        alpha_cutoff: Threshold of ``mask``, in [0, 1].
    """

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray
    colours: np.ndarray
    uv: np.ndarray | None = None
    texture: np.ndarray | None = None
    alpha: AlphaMode = "opaque"
    alpha_cutoff: float = 0.5


@dataclass(frozen=True)
class Mesh:
    """A mesh in the world frame: right-handed, +Z up, the front on +X.

    Args:
        parts: At least one part.
        name: What it is called, usually the file's stem.
        licence: What the file says about its licence or copyright, or None.
        caption: What the file says that it shows, or None.
        notes: One sentence each about what of the file was left out.
    """

    parts: tuple[MeshPart, ...]
    name: str = "mesh"
    licence: str | None = None
    caption: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def vertices(self) -> np.ndarray:
        """Vertices of all parts, ``[V, 3]``, world units."""
        return np.concatenate([part.vertices for part in self.parts])

    @property
    def faces(self) -> np.ndarray:
        """Faces of all parts, ``[F, 3]``, which number `vertices`."""
        first = np.cumsum([0, *(len(part.vertices) for part in self.parts)])
        return np.concatenate([part.faces + start for part, start in zip(self.parts, first, strict=False)])

    @property
    def n_faces(self) -> int:
        """Number of triangles."""
        return sum(len(part.faces) for part in self.parts)

    def moved(self, centre: np.ndarray, scale: float) -> Mesh:
        """The mesh with every vertex ``x`` at ``(x - centre) * scale``, as float32.

        Args:
            centre: ``[3]``, world units.
            scale: A positive number.
        """
        parts = tuple(
            replace(part, vertices=((part.vertices - centre) * scale).astype(np.float32)) for part in self.parts
        )
        return replace(self, parts=parts)
