"""A closed, coloured triangle mesh out of a density field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vfusion3d.errors import MeshError
from vfusion3d.rendering.lattice import Lattice, PointLattice, Progress, near_surface
from vfusion3d.rendering.topology import is_closed, pieces, weld, without_unused
from vfusion3d.rendering.unwrap import Unwrapping

Field = Callable[[Tensor], Tensor]
"""Maps points ``[N, 3]`` (world units, float32) to one value ``[N]`` or a colour ``[N, 3]`` each."""


class EmptySurfaceError(MeshError):
    """A field that nowhere exceeds the threshold."""


@dataclass(frozen=True)
class SurfaceMesh:
    """A triangle mesh with a colour per vertex and perhaps a texture, in world coordinates (+Z up, front +X).

    Args:
        vertices: World units, float32, ``[N, 3]``.
        faces: Vertex numbers, counter-clockwise seen from outside, int32, ``[M, 3]``.
        colours: sRGB as on a display, uint8, ``[N, 3]``.
        normals: Unit outward vectors, float32, ``[N, 3]``.
        uv: Texture coordinates with v pointing up, float32 in [0, 1], ``[N, 2]``, or None. Vertices on seams are there
            once per side.
        texture: sRGB, uint8, ``[H, W, 3]``, row 0 at v = 1, or None.
        unwrapping: How the texture coordinates were found (`vfusion3d.rendering.unwrap.Atlas`), or None.
    """

    vertices: np.ndarray
    faces: np.ndarray
    colours: np.ndarray
    normals: np.ndarray
    uv: np.ndarray | None = None
    texture: np.ndarray | None = None
    unwrapping: Unwrapping | None = None

    @property
    def volume(self) -> float:
        """Signed volume in cubic world units; positive for a closed mesh wound outwards."""
        return float(_face_volumes(self.vertices, self.faces).sum())

    def report(self) -> dict[str, Any]:
        """Size and health in plain numbers, for a file: faces, vertices, watertightness, pieces, volume, texture."""
        welded = weld(self.vertices, self.faces)
        return {
            "vertices": len(self.vertices),
            "faces": len(self.faces),
            "watertight": is_closed(welded),
            "components": len(np.unique(pieces(welded, len(self.vertices))[1])),
            "volume": round(self.volume, 6),
            "texture": None if self.texture is None else self.texture.shape[1],
            "unwrapping": self.unwrapping,
        }


def extract_isosurface(
    density: Field,
    threshold: float,
    resolution: int = 128,
    colours: Field | None = None,
    bound: float = 1.0,
    min_share: float = 0.02,
    chunk: int = 65536,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
    lattice: Lattice | None = None,
    coarse_to_fine: bool = False,
) -> SurfaceMesh:
    """Marching cubes over a lattice on ``[-bound, bound]^3`` (Lorensen and Cline 1987, through scikit-image).

    The surface is closed where the object leaves the box. Pieces whose area is under a share of the largest
    piece's are dropped (floaters), and so are inner walls of hollow objects, which nobody can see.

    Args:
        density: The field; it exceeds ``threshold`` inside the object.
        threshold: Value of the surface.
        resolution: Lattice points a side.
        colours: Gives each vertex its sRGB colour in [0, 1]; mid-grey if None.
        bound: Half the side of the box, world units.
        min_share: Smallest kept area as a share of the largest piece's.
        chunk: Points per call of the fields.
        device: Where points are made.
        progress: Told after each part of the lattice.
        lattice: The density on that lattice, where there is a faster way than by points.
        coarse_to_fine: Evaluate only around the surface (`vfusion3d.rendering.lattice.near_surface`): several times
            faster, the same where it finds a surface, blind to separate pieces thinner than four lattice points.

    Raises:
        EmptySurfaceError: if the density nowhere exceeds the threshold.
        MeshError: if the density is not finite.
        ValueError: if ``resolution`` is under 2.
    """
    from skimage.measure import marching_cubes

    if resolution < 2:
        raise ValueError(f"Argument `resolution` must be at least 2, but got {resolution}.")
    lattice = lattice or PointLattice(density, resolution, bound, chunk, device)
    values = (near_surface(lattice, threshold, progress) if coarse_to_fine else lattice.everywhere(progress)).numpy()
    if not np.isfinite(values).all():
        raise MeshError("The density field contains NaN or infinite numbers; the checkpoint is damaged.")
    if not (values > threshold).any():
        raise EmptySurfaceError(
            f"The density stays under the threshold of {threshold:g} everywhere (its maximum is {values.max():.3g}), "
            "so there is no surface; try another picture or a lower threshold."
        )
    # One layer of emptiness around the lattice closes what touches the box.
    values = np.pad(values, 1, constant_values=threshold - max(1.0, abs(threshold)))
    step = 2 * bound / (resolution - 1)
    # In scikit-image 0.2x "ascent" winds faces outwards when the inside is higher, whatever its manual says.
    vertices, faces, _, _ = marching_cubes(values, threshold, spacing=(step,) * 3, gradient_direction="ascent")
    vertices = np.clip(vertices - (bound + step), -bound, bound).astype(np.float32)
    vertices, faces = keep_large_pieces(vertices, faces.astype(np.int32), min_share)
    if colours is None:
        shades = np.full(vertices.shape, 128, dtype=np.uint8)
    else:
        shades = vertex_colours(colours, vertices, chunk, device)
    return SurfaceMesh(vertices, faces, shades, vertex_normals(vertices, faces))


def keep_large_pieces(vertices: np.ndarray, faces: np.ndarray, min_share: float) -> tuple[np.ndarray, np.ndarray]:
    """Drop connected pieces of little area, and pieces wound inwards (the walls of cavities).

    Args:
        vertices: ``[N, 3]``.
        faces: Closed pieces, counter-clockwise from outside, ``[M, 3]``.
        min_share: Smallest kept area as a share of the largest piece's.

    Returns:
        The remaining vertices and faces, renumbered.
    """
    count, of_face = pieces(faces, len(vertices))
    area = np.bincount(of_face, np.linalg.norm(_face_normals(vertices, faces), axis=1), minlength=count)
    volume = np.bincount(of_face, _face_volumes(vertices, faces), minlength=count)
    area = np.where(volume > 0, area, 0)
    kept_face = ((area > 0) & (area >= min_share * area.max()))[of_face]
    return without_unused(vertices, faces[kept_face])


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals ``[N, 3]``: the area-weighted mean of the faces around each vertex."""
    around = _face_normals(vertices, faces)
    total = np.stack(
        [np.bincount(faces.ravel(), np.repeat(around[:, k], 3), minlength=len(vertices)) for k in range(3)], axis=-1
    )
    length = np.linalg.norm(total, axis=-1, keepdims=True)
    up = np.array([0.0, 0.0, 1.0])
    return np.where(length > 1e-20, total / np.maximum(length, 1e-20), up).astype(np.float32)


def _face_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Outward vectors of twice each face's area, ``[M, 3]``."""
    a, b, c = (vertices[faces[:, k]].astype(np.float64) for k in range(3))
    return np.cross(b - a, c - a)


def _face_volumes(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Signed volumes of the tetrahedra from the origin to each face, ``[M]``."""
    return (_face_normals(vertices, faces) * vertices[faces[:, 0]]).sum(-1) / 6


def vertex_colours(
    colours: Field, vertices: np.ndarray, chunk: int = 65536, device: torch.device | str = "cpu"
) -> np.ndarray:
    """A field's sRGB colours in [0, 1] at vertices ``[N, 3]``, as uint8 ``[N, 3]``."""
    points = torch.from_numpy(vertices).to(device)
    with torch.inference_mode():
        shades = torch.cat([colours(part).float().cpu() for part in points.split(chunk)])
    return (shades.clamp(0, 1) * 255 + 0.5).to(torch.uint8).numpy()
