"""Cameras on orbits and spheres around the origin."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vfusion3d.cameras.camera import Cameras, focal_from_fov


def look_at(eyes: Tensor, intrinsics: Tensor, target: Tensor | None = None) -> Cameras:
    """Cameras at ``eyes`` looking at ``target`` with +Z up.

    Args:
        eyes: Camera centres, ``[..., 3]``, world units.
        intrinsics: Normalised ``(fx, fy, cx, cy)``, broadcastable to ``[..., 4]``.
        target: Point looked at, ``[..., 3]``; the origin if None.

    A camera straight above or below its target has its image's top towards -X or +X.

    Raises:
        ValueError: if an eye coincides with its target.
    """
    eyes, target = torch.broadcast_tensors(eyes, torch.zeros_like(eyes) if target is None else target)
    backward = eyes - target
    distance = backward.norm(dim=-1, keepdim=True)
    if bool((distance < 1e-9).any()):
        raise ValueError("Argument `eyes` must differ from the point looked at.")
    backward = backward / distance
    up = eyes.new_tensor([0.0, 0.0, 1.0]).expand_as(backward)
    right = torch.linalg.cross(up, backward)
    length = right.norm(dim=-1, keepdim=True)
    right = torch.where(length < 1e-6, eyes.new_tensor([0.0, 1.0, 0.0]), right / length.clamp_min(1e-6))
    true_up = torch.linalg.cross(backward, right)
    poses = torch.stack([right, true_up, backward, eyes], dim=-1)
    return Cameras(poses, intrinsics.to(poses))


def on_sphere(azimuth: Tensor, elevation: Tensor, radius: Tensor | float, intrinsics: Tensor) -> Cameras:
    """Cameras looking at the origin from given angles.

    Args:
        azimuth: Radians about +Z from +X, ``[...]``.
        elevation: Radians above the XY plane, broadcastable to ``[...]``.
        radius: Distance to the origin in world units.
        intrinsics: Normalised ``(fx, fy, cx, cy)``, broadcastable to ``[..., 4]``.
    """
    azimuth, elevation = torch.broadcast_tensors(azimuth, elevation)
    direction = torch.stack(
        [torch.cos(elevation) * torch.cos(azimuth), torch.cos(elevation) * torch.sin(azimuth), torch.sin(elevation)], -1
    )
    distance = torch.as_tensor(radius, dtype=azimuth.dtype, device=azimuth.device)
    return look_at(direction * distance[..., None], intrinsics)


def pinhole(fov: float = 40.0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normalised intrinsics ``[4]`` of a centred square camera with a field of view in degrees."""
    focal = focal_from_fov(fov)
    return torch.tensor([focal, focal, 0.5, 0.5], dtype=dtype)


def fit_radius(fov: float, margin: float = 1.05) -> float:
    """Distance at which the unit sphere fills the frame but for a margin, world units."""
    return margin / math.sin(math.radians(fov) / 2)


def orbit(
    views: int = 16,
    elevation: float = 0.0,
    radius: float | None = None,
    fov: float = 40.0,
    start: float = 0.0,
    direction: int = 1,
    offset_noise: float = 0.0,
    generator: torch.Generator | None = None,
) -> Cameras:
    """A circle of cameras looking at the origin (paper, data section: 16 views, azimuth every 2 pi / 16).

    Args:
        views: Number of cameras, at azimuths ``start + direction * 2 pi k / views``.
        elevation: Radians above the XY plane.
        radius: Distance to the origin, world units; by default the unit sphere just fits (`fit_radius`).
        fov: Field of view in degrees.
        start: Azimuth of the first camera, radians.
        direction: 1 counter-clockwise seen from above, -1 clockwise (the sign of the video model's rig).
        offset_noise: Each camera centre moves by U(-offset_noise, offset_noise) per axis, world units,
            keeping its orientation (the paper's "camera offset" is 0.05; the unit is ours).
        generator: Source of the noise.

    Returns:
        Cameras of shape ``[views]``.

    Raises:
        ValueError: naming the argument.

    Example:
        >>> orbit(views=16, elevation=0.3).shape
        torch.Size([16])
    """
    if views < 1:
        raise ValueError(f"Argument `views` must be at least 1, but got {views}.")
    if direction not in (1, -1):
        raise ValueError(f"Argument `direction` must be 1 or -1, but got {direction}.")
    intrinsics = pinhole(fov)
    radius = fit_radius(fov) if radius is None else radius
    if not radius > 0:
        raise ValueError(f"Argument `radius` must be positive, but got {radius}.")
    azimuth = start + direction * 2 * math.pi * torch.arange(views, dtype=torch.float64) / views
    cameras = on_sphere(azimuth, torch.tensor(elevation, dtype=torch.float64), radius, intrinsics).to(torch.float32)
    if offset_noise:
        offset = (torch.rand(views, 3, generator=generator) * 2 - 1) * offset_noise
        poses = cameras.poses.clone()
        poses[..., 3] += offset
        cameras = Cameras(poses, cameras.intrinsics)
    return cameras


def random_sphere(
    views: int,
    elevation: tuple[float, float] = (-0.2, 1.0),
    fov: tuple[float, float] = (30.0, 60.0),
    zoom: tuple[float, float] = (1.0, 1.15),
    generator: torch.Generator | None = None,
) -> Cameras:
    """Cameras at random angles looking at the origin, uniform on a band of the sphere.

    Args:
        views: Number of cameras.
        elevation: Lowest and highest elevation, radians.
        fov: Smallest and largest field of view in degrees, one draw per call (the views share it).
        zoom: Smallest and largest distance in units of `fit_radius` of the drawn field of view.
        generator: Source of randomness.

    Returns:
        Cameras of shape ``[views]``.
    """
    draw = torch.rand(views, 3, generator=generator, dtype=torch.float64)
    angle_of_view = fov[0] + float(torch.rand((), generator=generator)) * (fov[1] - fov[0])
    azimuth = draw[:, 0] * 2 * math.pi
    low, high = math.sin(elevation[0]), math.sin(elevation[1])
    angle = torch.asin((low + draw[:, 1] * (high - low)).clamp(-1, 1))
    distance = fit_radius(angle_of_view) * (zoom[0] + draw[:, 2] * (zoom[1] - zoom[0]))
    return on_sphere(azimuth, angle, distance, pinhole(angle_of_view)).to(torch.float32)
