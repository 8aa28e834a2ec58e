"""Cameras: the one camera type, orbits, noise, source frames and conventions."""

from vfusion3d.cameras.camera import Cameras, focal_from_fov, fov_from_focal
from vfusion3d.cameras.frames import SourceFrame, frame_transform, released_source_camera, source_vectors
from vfusion3d.cameras.noise import rigid_noise
from vfusion3d.cameras.orbits import fit_radius, look_at, on_sphere, orbit, pinhole, random_sphere
from vfusion3d.cameras.rig import MAX_ELEVATION, Rig

__all__ = [
    "MAX_ELEVATION",
    "Cameras",
    "Rig",
    "SourceFrame",
    "fit_radius",
    "focal_from_fov",
    "fov_from_focal",
    "frame_transform",
    "look_at",
    "on_sphere",
    "orbit",
    "pinhole",
    "random_sphere",
    "released_source_camera",
    "rigid_noise",
    "source_vectors",
]
