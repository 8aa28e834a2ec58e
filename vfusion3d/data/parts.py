"""Parts of procedural objects and the packing of assembled objects into tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch

from vfusion3d.data.raycast import DECAL_SIZE, SURFACE_SIZE, ProceduralObjects

Array = np.ndarray[Any, np.dtype[np.float64]]
Quadric = tuple[float, float, float, float, float]
Vector = tuple[float, float, float]
Axis = Literal["x", "y", "z", "-x", "-y", "-z"]

MAX_PARTS = 14
MAX_CARVERS = 4
MAX_DECALS = 4
MAX_LIGHTS = 3
MARGIN = 0.99  # largest distance of a surface point from the centre; the rest absorbs the sampling of the extent

# Quadrics (qx, qy, qz, lz, c) inside of the cube [-1, 1]^3; the axis of all of them is z.
BOX: Quadric = (1, 1, 1, 0, -3.01)
ELLIPSOID: Quadric = (1, 1, 1, 0, -1)
CYLINDER: Quadric = (1, 1, 0, 0, -1)
CONE: Quadric = (1, 1, -0.25, 0.25, -0.25)
DOME: Quadric = (1, 1, 0.25, 0.25, -0.75)  # half an ellipsoid, flat side at z = -1
NOSE: Quadric = (1, 1, 0, 0.25, -0.5)  # a paraboloid with its tip at z = 1
GABLE: Quadric = (0, 1, -0.25, 0.25, -0.25)  # a roof whose ridge runs along x at z = 1
ARCH: Quadric = (0, 1, 0.25, 0.25, -0.75)  # a half cylinder along x, flat side at z = -1
_EMPTY: Quadric = (1, 1, 1, 0, 1)


def rounded_box(roundness: float) -> Quadric:
    """A box whose corners are cut by a sphere; roundness 0 (sharp) to 1 (edges reach the sphere)."""
    return (1, 1, 1, 0, -(3.0 - roundness))


def barrel(bulge: float) -> Quadric:
    """A cylinder whose ends have radius sqrt(1 - bulge), bulge in (0, 1)."""
    return (1, 1, bulge, 0, -1)


def frustum(top: float) -> Quadric:
    """A cone cut off at z = 1, where its radius is ``top`` in [0, 1)."""
    middle, slope = (1 + top) / 2, (1 - top) / 2
    return (1, 1, -slope * slope, middle * slope, -middle * middle)


def wedge(top: float) -> Quadric:
    """A frustum that tapers in y only."""
    return (0.0, *frustum(top)[1:])


def spool(waist: float) -> Quadric:
    """A body of revolution with radius 1 at both ends and ``waist`` in (0, 1) in the middle."""
    return (1, 1, waist * waist - 1, 0, -waist * waist)


def rotation_about(axis: Sequence[float], angle: float) -> Array:
    """Rotation matrix about an axis (any length) by an angle in radians."""
    x, y, z = np.asarray(axis, dtype=np.float64) / np.linalg.norm(np.asarray(axis))
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * skew + (1 - np.cos(angle)) * (skew @ skew)


@lru_cache(maxsize=1)
def _probe_points() -> Array:
    """Points around the origin whose rays sample the surface of any part, ``[N, 3]``."""
    angles = np.arange(24) * (2 * np.pi / 24)
    circle = np.stack([np.cos(angles), np.sin(angles)], -1)
    rings = [
        np.c_[radius * circle, np.full(24, z)] for radius in (0.3, 0.6, 1.0) for z in (-1, -0.7, -0.35, 0, 0.35, 0.7, 1)
    ]
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 0, 1)], dtype=np.float64)
    return np.concatenate([*rings, corners])


@lru_cache(maxsize=256)
def _surface_points(quadric: Quadric) -> Array:
    """Surface points of a part in its own coordinates, ``[N, 3]``."""
    points = _probe_points()
    qx, qy, qz, lz, c = quadric
    a = (points * points) @ np.array([qx, qy, qz])
    b = lz * points[:, 2]
    root = np.sqrt(np.maximum(b * b - a * c, 0))
    # The origin is inside (c < 0): the way out is the smallest positive root of a s^2 + 2 b s + c.
    with np.errstate(divide="ignore"):
        exits = np.where(b + root > 0, -c / np.maximum(b + root, 1e-12), np.inf)
    exits = np.where(b * b - a * c < 0, np.inf, exits)
    return np.asarray(points * np.minimum(exits, 1 / np.abs(points).max(1))[:, None])


@dataclass
class Part:
    """One primitive: ``world = matrix @ local + centre``."""

    quadric: Quadric
    matrix: Array
    centre: Array
    surface: int
    carver: Part | None = None

    def mirrored(self) -> Part:
        """The part reflected in y = 0."""
        flip = np.array([1.0, -1.0, 1.0])
        carver = None if self.carver is None else self.carver.mirrored()
        return Part(self.quadric, self.matrix * flip[:, None], self.centre * flip, self.surface, carver)

    def points(self) -> Array:
        """Surface points in the world, ``[N, 3]``."""
        return np.asarray(_surface_points(self.quadric) @ self.matrix.T + self.centre)


def part(
    quadric: Quadric,
    centre: Sequence[float],
    half: Sequence[float],
    surface: int = 0,
    axis: Axis = "z",
    turn: Array | None = None,
    carver: Part | None = None,
) -> Part:
    """A part from its centre and half sizes.

    Args:
        quadric: Its shape.
        centre: In world units.
        half: Half sizes along the world's x, y, z (before ``turn``).
        surface: Index of its surface.
        axis: Direction of the shape's own z axis.
        turn: Rotation about the centre.
        carver: What hollows it.
    """
    k = "xyz".index(axis[-1])
    matrix = np.zeros((3, 3))
    for local, world in enumerate(((k + 1) % 3, (k + 2) % 3, k)):
        matrix[world, local] = half[world]
    if axis[0] == "-":
        matrix[:, 2] *= -1
    return Part(
        quadric, matrix if turn is None else turn @ matrix, np.asarray(centre, dtype=np.float64), surface, carver
    )


@dataclass
class Decal:
    """A box or ellipsoid of the world in which surfaces are painted over."""

    centre: Vector
    half: Vector
    colour: Vector
    line_colour: Vector
    lines: float = 0.0  # horizontal lines per (normalised) unit of height
    round: bool = False
    mirrored: bool = False


@dataclass
class Assembly:
    """An object under construction, in any units; packing moves it into the unit sphere."""

    parts: list[Part] = field(default_factory=list)
    decals: list[Decal] = field(default_factory=list)

    def add(self, *parts: Part, mirror: bool = False) -> None:
        """Append parts, with their mirror images if asked."""
        for item in parts:
            self.parts.append(item)
            if mirror:
                self.parts.append(item.mirrored())


@dataclass
class Lighting:
    """World-fixed light: ambient from above and below and directional lights."""

    above: Vector
    below: Vector
    directions: list[Vector]
    colours: list[Vector]


def pack(assembly: Assembly, surfaces: list[Array], lighting: Lighting, mirrored: bool) -> ProceduralObjects:
    """One object as tensors without a batch dimension.

    The object is centred on its bounding box and scaled until it touches the unit sphere.

    Args:
        assembly: Parts and decals.
        surfaces: What `Part.surface` points to, in normalised units.
        lighting: Lights.
        mirrored: Whether patterns are mirrored across y = 0.
    """
    parts = sorted(assembly.parts, key=lambda item: item.carver is None)
    carvers = [item.carver for item in parts if item.carver is not None][:MAX_CARVERS]
    points = np.concatenate([item.points() for item in parts])
    middle = (points.min(0) + points.max(0)) / 2
    scale = MARGIN / np.sqrt(((points - middle) ** 2).sum(1).max())

    def rows(items: list[Part], capacity: int) -> tuple[Array, Array, Array]:
        transforms = np.tile(np.eye(3, 4), (capacity, 1, 1))
        quadrics = np.tile(np.array(_EMPTY, dtype=np.float64), (capacity, 1))
        paint = np.zeros((capacity, SURFACE_SIZE))
        if items:
            count = len(items)
            transforms[:count, :, :3] = np.linalg.inv(np.stack([item.matrix for item in items]) * scale)
            centres = (np.stack([item.centre for item in items]) - middle) * scale
            transforms[:count, :, 3] = -(transforms[:count, :, :3] * centres[:, None]).sum(-1)
            quadrics[:count] = [item.quadric for item in items]
            paint[:count] = [surfaces[item.surface] for item in items]
        return transforms, quadrics, paint

    decals = np.zeros((MAX_DECALS, DECAL_SIZE))
    decals[:, 3:6] = 1e-9
    for k, decal in enumerate(assembly.decals):
        centre, half = (np.asarray(decal.centre) - middle) * scale, np.asarray(decal.half) * scale
        decals[k] = [*centre, *half, decal.round, decal.mirrored, *decal.colour, *decal.line_colour, decal.lines]
    directions, colours = np.zeros((MAX_LIGHTS, 3)), np.zeros((MAX_LIGHTS, 3))
    for k, (direction, colour) in enumerate(zip(lighting.directions, lighting.colours, strict=True)):
        directions[k] = np.asarray(direction) / np.linalg.norm(direction)
        colours[k] = colour
    ambient = np.array([lighting.above, lighting.below])
    fields = (*rows(parts, MAX_PARTS), *rows(carvers, MAX_CARVERS), decals, ambient, directions, colours)
    counts = torch.tensor([len(parts), len(carvers), len(assembly.decals)])
    tensors = [torch.from_numpy(field).float() for field in fields]
    return ProceduralObjects(*[*tensors, torch.tensor(float(mirrored)), counts])
