"""The one camera type of the library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


def product(first: Tensor, second: Tensor) -> Tensor:
    """Small matrix products ``[..., n, k] x [..., k, m]`` by hand: autocast would round ``@`` to half precision."""
    return (first[..., :, :, None] * second[..., None, :, :]).sum(-2)


@dataclass(frozen=True, eq=False)
class Cameras:
    """A batch of perspective cameras of any shape ``[...]``.

    World: right-handed, +Z up, azimuth 0 on +X (the front of an object), objects in ``[-1, 1]^3``.
    Camera axes as in OpenGL and Blender: x right, y up, looking along -z.

    Args:
        poses: Camera-to-world ``[R | t]``, shape ``[..., 3, 4]``; the columns are the camera's right, up
            and backward axes and its centre, in world units.
        intrinsics: ``(fx, fy, cx, cy)`` divided by the image's width, height, width, height, shape
            ``[..., 4]``. The image spans ``[0, 1] x [0, 1]`` with v pointing down, and pixel ``(i, j)`` of
            a W x H image has its centre at ``((i + 0.5) / W, (j + 0.5) / H)``.

    Raises:
        ValueError: if the shapes do not fit.

    Example:
        >>> from vfusion3d import Cameras, orbit
        >>> cameras = orbit(views=4, elevation=0.0, radius=2.0, fov=60.0)
        >>> cameras.shape
        torch.Size([4])
        >>> [round(x, 3) for x in cameras.centers[0].tolist()]
        [2.0, 0.0, 0.0]
        >>> origins, directions = cameras.rays(32, 48)
        >>> directions.shape
        torch.Size([4, 32, 48, 3])
    """

    poses: Tensor
    intrinsics: Tensor

    def __post_init__(self) -> None:
        if self.poses.shape[-2:] != (3, 4):
            raise ValueError(
                f"Argument `poses` must have shape [..., 3, 4] (camera-to-world), but got {list(self.poses.shape)}."
            )
        if self.intrinsics.shape[-1:] != (4,):
            raise ValueError(
                "Argument `intrinsics` must have shape [..., 4] (fx, fy, cx, cy divided by the image size), "
                f"but got {list(self.intrinsics.shape)}."
            )
        if self.intrinsics.shape[:-1] != self.poses.shape[:-2]:
            shape = torch.broadcast_shapes(self.intrinsics.shape[:-1], self.poses.shape[:-2])
            object.__setattr__(self, "poses", self.poses.expand(*shape, 3, 4))
            object.__setattr__(self, "intrinsics", self.intrinsics.expand(*shape, 4))

    # -- shape ---------------------------------------------------------------------------------------------
    @property
    def shape(self) -> torch.Size:
        """Batch shape ``[...]``."""
        return self.poses.shape[:-2]

    @property
    def device(self) -> torch.device:
        """Device of the tensors."""
        return self.poses.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the tensors."""
        return self.poses.dtype

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a single camera; its batch shape is [].")
        return self.shape[0]

    def __getitem__(self, index: Any) -> Cameras:
        """Index the batch dimensions."""
        keys = index if isinstance(index, tuple) else (index,)
        if any(key is Ellipsis for key in keys):
            return Cameras(self.poses[(*keys, slice(None), slice(None))], self.intrinsics[(*keys, slice(None))])
        return Cameras(self.poses[index], self.intrinsics[index])

    def to(self, *args: Any, **kwargs: Any) -> Cameras:
        """Move or cast, as `torch.Tensor.to`."""
        return Cameras(self.poses.to(*args, **kwargs), self.intrinsics.to(*args, **kwargs))

    def reshape(self, *shape: int) -> Cameras:
        """Reshape the batch dimensions."""
        return Cameras(self.poses.reshape(*shape, 3, 4), self.intrinsics.reshape(*shape, 4))

    def unsqueeze(self, dim: int) -> Cameras:
        """Insert a batch dimension at a non-negative position."""
        return Cameras(self.poses.unsqueeze(dim), self.intrinsics.unsqueeze(dim))

    def expand(self, *shape: int) -> Cameras:
        """Expand the batch dimensions."""
        return Cameras(self.poses.expand(*shape, 3, 4), self.intrinsics.expand(*shape, 4))

    @staticmethod
    def cat(cameras: Sequence[Cameras], dim: int = 0) -> Cameras:
        """Concatenate along a non-negative batch dimension."""
        return Cameras(torch.cat([c.poses for c in cameras], dim), torch.cat([c.intrinsics for c in cameras], dim))

    @staticmethod
    def stack(cameras: Sequence[Cameras], dim: int = 0) -> Cameras:
        """Stack along a new, non-negative batch dimension."""
        return Cameras(torch.stack([c.poses for c in cameras], dim), torch.stack([c.intrinsics for c in cameras], dim))

    # -- geometry ------------------------------------------------------------------------------------------
    @property
    def matrices(self) -> Tensor:
        """Camera-to-world as homogeneous matrices, ``[..., 4, 4]``."""
        row = self.poses.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*self.shape, 1, 4)
        return torch.cat([self.poses, row], dim=-2)

    @property
    def world_to_camera(self) -> Tensor:
        """World-to-camera matrices (OpenGL camera axes), ``[..., 4, 4]``, by transposing the rotation."""
        rotation = self.poses[..., :3].transpose(-1, -2)
        translation = -product(rotation, self.poses[..., 3:])
        row = self.poses.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*self.shape, 1, 4)
        return torch.cat([torch.cat([rotation, translation], dim=-1), row], dim=-2)

    @property
    def centers(self) -> Tensor:
        """Camera centres in the world, ``[..., 3]``."""
        return self.poses[..., 3]

    @property
    def azimuths(self) -> Tensor:
        """Angle of the centre about +Z from +X, radians in (-pi, pi], ``[...]``."""
        return torch.atan2(self.centers[..., 1], self.centers[..., 0])

    @property
    def elevations(self) -> Tensor:
        """Angle of the centre above the XY plane, radians, ``[...]``."""
        return torch.atan2(self.centers[..., 2], self.centers[..., :2].norm(dim=-1))

    @property
    def vectors(self) -> Tensor:
        """The 16 numbers of the released models: the pose row by row, then fx, fy, cx, cy; ``[..., 16]``."""
        return torch.cat([self.poses.flatten(-2), self.intrinsics], dim=-1)

    @staticmethod
    def from_vectors(vectors: Tensor) -> Cameras:
        """Inverse of `vectors`; ``[..., 16]``."""
        if vectors.shape[-1] != 16:
            raise ValueError(f"Argument `vectors` must have shape [..., 16], but got {list(vectors.shape)}.")
        return Cameras(vectors[..., :12].unflatten(-1, (3, 4)), vectors[..., 12:])

    def rays(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Rays through the pixel centres.

        Returns:
            Origins and unit directions in the world, each ``[..., height, width, 3]``.
        """
        u = (torch.arange(width, device=self.device, dtype=self.dtype) + 0.5) / width
        v = (torch.arange(height, device=self.device, dtype=self.dtype) + 0.5) / height
        fx, fy, cx, cy = (self.intrinsics[..., k, None, None] for k in range(4))
        x = ((u - cx) / fx).expand(*self.shape, height, width)
        y = ((cy - v[:, None]) / fy).expand(*self.shape, height, width)
        local = torch.stack([x, y, -torch.ones_like(x)], dim=-1)
        rotation = self.poses[..., None, None, :, :3]
        directions = torch.nn.functional.normalize((rotation * local[..., None, :]).sum(-1), dim=-1)
        origins = self.centers[..., None, None, :].expand_as(directions)
        return origins, directions

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Project world points ``[..., N, 3]``.

        Returns:
            Normalised image positions ``[..., N, 2]`` (u right, v down, the image is the unit square) and
            depths along the viewing axis ``[..., N]`` (positive in front).
        """
        offset = points - self.centers[..., None, :]
        right, up, backward = ((offset * self.poses[..., None, :, k]).sum(-1) for k in range(3))
        depth = -backward
        safe = torch.where(depth.abs() < 1e-8, torch.full_like(depth, 1e-8), depth)
        fx, fy, cx, cy = (self.intrinsics[..., k, None] for k in range(4))
        uv = torch.stack([fx * right / safe + cx, cy - fy * up / safe], dim=-1)
        return uv, depth

    # -- changes -------------------------------------------------------------------------------------------
    def transform(self, matrix: Tensor) -> Cameras:
        """Move the world: left-multiply every pose by a rigid ``[..., 4, 4]`` (or 3 x 4) matrix."""
        poses = product(matrix[..., :3, :3], self.poses)
        moved = torch.cat([poses[..., :3], poses[..., 3:] + matrix[..., :3, 3:]], dim=-1)
        return Cameras(moved, self.intrinsics)

    def crop(self, left: Tensor | float, top: Tensor | float, width: Tensor | float, height: Tensor | float) -> Cameras:
        """Cameras of a window of the image, which may reach beyond it.

        Args:
            left, top, width, height: The window in units of the image size, numbers or ``[...]``.
        """
        fx, fy, cx, cy = self.intrinsics.unbind(-1)
        window = torch.stack(
            torch.broadcast_tensors(fx / width, fy / height, (cx - left) / width, (cy - top) / height), -1
        )
        return Cameras(self.poses, window)

    def mirrored(self) -> Cameras:
        """Cameras of the mirrored world (y -> -y) whose pictures are the old ones flipped left to right."""
        world = self.poses.new_tensor([1.0, -1.0, 1.0])[:, None]
        camera = self.poses.new_tensor([-1.0, 1.0, 1.0, 1.0])
        fx, fy, cx, cy = self.intrinsics.unbind(-1)
        return Cameras(self.poses * world * camera, torch.stack([fx, fy, 1 - cx, cy], -1))

    def validate(self, tolerance: float = 1e-3) -> None:
        """Check that every pose is a proper rigid motion and every focal length positive.

        Raises:
            ValueError: naming what is wrong.
        """
        if not (torch.isfinite(self.poses).all() and torch.isfinite(self.intrinsics).all()):
            raise ValueError("Cameras contain NaN or infinite numbers.")
        rotation = self.poses[..., :3].double()
        error = (rotation.transpose(-1, -2) @ rotation - torch.eye(3, dtype=torch.float64, device=self.device)).abs()
        if error.numel() and float(error.max()) > tolerance:
            raise ValueError(f"Camera rotations are not orthonormal (largest error {float(error.max()):.3g}).")
        if error.numel() and float(torch.linalg.det(rotation).min()) < 0:
            raise ValueError("Camera rotations contain a reflection (determinant -1).")
        if self.intrinsics.numel() and float(self.intrinsics[..., :2].min()) <= 0:
            raise ValueError("Focal lengths must be positive.")


def focal_from_fov(fov: float) -> float:
    """Normalised focal length of a field of view in degrees."""
    if not 0 < fov < 180:
        raise ValueError(f"Argument `fov` must be between 0 and 180 degrees, but got {fov}.")
    return 0.5 / math.tan(math.radians(fov) / 2)


def fov_from_focal(focal: float) -> float:
    """Field of view in degrees of a normalised focal length."""
    return 2 * math.degrees(math.atan(0.5 / focal))
