"""The cameras of a video model's orbits."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vfusion3d.cameras.camera import Cameras
from vfusion3d.cameras.orbits import orbit

MAX_ELEVATION = math.pi / 4  # labels of generated orbits are clamped to [0, this]


@dataclass(frozen=True)
class Rig:
    """The cameras that a video model's orbits claim: frame k is at azimuth ``direction * 2 pi k / frames``.

    Args:
        radius: Distance to the origin, world units.
        fov: Field of view in degrees.
        direction: 1 counter-clockwise seen from above, -1 clockwise.
        frames: Frames per orbit.
    """

    radius: float
    fov: float
    direction: int = 1
    frames: int = 16

    def cameras(self, elevation: float) -> Cameras:
        """The nominal cameras ``[frames]`` of an orbit whose elevation in radians was estimated: clamped to
        [0, pi/4], looking at the origin, z up."""
        clamped = min(max(elevation, 0.0), MAX_ELEVATION)
        return orbit(self.frames, clamped, self.radius, self.fov, direction=self.direction)
