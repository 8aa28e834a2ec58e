"""The three source frames: in which world the model is told about the source camera and answers."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from vfusion3d.cameras.camera import Cameras, product

SourceFrame = Literal["fixed", "source_relative", "upright_azimuth"]


def released_source_camera() -> Cameras:
    """The constant source camera of the released VFusion3D: on +X at distance 1, focal 0.75 (shape ``[]``)."""
    poses = torch.tensor([[0.0, 0.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    return Cameras(poses, torch.tensor([0.75, 0.75, 0.5, 0.5]))


def openlrm_canonical_pose(distance: Tensor | float) -> Tensor:
    """OpenLRM's canonical source pose: on -Y at a distance, looking at +Y; ``[..., 3, 4]``."""
    d = distance if isinstance(distance, Tensor) else torch.tensor(float(distance))
    base = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]], dtype=d.dtype, device=d.device)
    centre = torch.stack([torch.zeros_like(d), -d, torch.zeros_like(d)], -1)
    return torch.cat([base.expand(*d.shape, 3, 3), centre[..., None]], -1)


def frame_transform(source: Cameras, frame: SourceFrame) -> Tensor:
    """The rigid motion from our world into a model's frame.

    Args:
        source: Source cameras in the world, ``[...]``.
        frame: ``fixed``: the source vector is constant, so the world is moved until the source's direction
            is that of the released camera (+X, elevation 0), keeping its distance. ``source_relative``:
            the world is moved by ``canonical x inverse(source)`` (OpenLRM, with the true distance).
            ``upright_azimuth``: the world is turned about +Z until the source is at azimuth 0.

    Returns:
        Matrices ``[..., 4, 4]`` for `Cameras.transform`; their inverse takes the model's answer back.

    Raises:
        ValueError: if ``frame`` is unknown.
    """
    if frame not in get_args(SourceFrame):
        raise ValueError(f"Argument `frame` must be one of {get_args(SourceFrame)}, but got {frame!r}.")
    row = source.poses.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*source.shape, 1, 4)
    if frame == "upright_azimuth":
        angle = -source.azimuths
        cos, sin, zero, one = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle), torch.ones_like(angle)
        numbers = [cos, -sin, zero, zero, sin, cos, zero, zero, zero, zero, one, zero, zero, zero, zero, one]
        return torch.stack(numbers, -1).unflatten(-1, (4, 4))
    distance = source.centers.norm(dim=-1)
    if frame == "source_relative":
        canonical = openlrm_canonical_pose(distance)
    else:
        rotation = released_source_camera().poses[:, :3].to(source.poses)
        centre = rotation[:, 2] * distance[..., None]
        canonical = torch.cat([rotation.expand(*source.shape, 3, 3), centre[..., None]], -1)
    return product(torch.cat([canonical, row], -2), source.world_to_camera)


def source_vectors(source: Cameras, frame: SourceFrame) -> Tensor:
    """What the model's camera embedding reads: ``[..., 16]`` (see `Cameras.vectors`)."""
    if frame == "fixed":
        return released_source_camera().to(source.poses).expand(*source.shape).vectors
    return source.transform(frame_transform(source, frame)).vectors
