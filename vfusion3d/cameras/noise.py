"""Camera noise that stays on the manifold: a rotation stays a rotation."""

from __future__ import annotations

import torch
from torch import Tensor

from vfusion3d.cameras.camera import Cameras, product


def rotation_from_vector(vector: Tensor) -> Tensor:
    """Rotation matrices ``[..., 3, 3]`` of rotation vectors ``[..., 3]`` in radians (matrix exponential)."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    return torch.linalg.matrix_exp(skew)


def rigid_noise(
    cameras: Cameras,
    rotation: float,
    translation: float,
    intrinsics: float = 0.0,
    unit: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Cameras:
    """Move each camera by a small rigid motion in its own frame (paper: uniform in [-0.02, 0.02]).

    Args:
        cameras: Cameras of any shape.
        rotation: Largest rotation-vector component, radians.
        translation: Largest translation component, world units.
        intrinsics: Largest change of each normalised intrinsic number.
        unit: Uniform numbers in ``[0, 1)``, ``[..., 10]``, in place of ``generator`` (for noise that is a
            function of a sample's index).
        generator: Source of the noise.

    Returns:
        Cameras of the same shape.
    """
    if unit is None:
        unit = torch.rand(*cameras.shape, 10, generator=generator)
    draw = unit.to(cameras.poses) * 2 - 1
    turn = rotation_from_vector(draw[..., :3] * rotation)
    shift = draw[..., 3:6, None] * translation
    base = cameras.poses[..., :3]
    poses = torch.cat([product(base, turn), cameras.poses[..., 3:] + product(base, shift)], dim=-1)
    return Cameras(poses, cameras.intrinsics + draw[..., 6:] * intrinsics)
