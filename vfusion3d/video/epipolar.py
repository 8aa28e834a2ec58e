"""Attention among all views at a U-Net's coarsest level, along epipolar lines (an option of the paper's supplement)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vfusion3d.cameras import Cameras
from vfusion3d.errors import UsageError
from vfusion3d.video.backbone import Conditioning, VideoBackbone, told_cameras

JOINT = "joint_attention"
"""What the denoiser calls the part that attends among views."""
_BAND = 1.5  # cells: half a cell's diagonal on either side, for where in the cells a point and its image lie


def epipolar_mask(cameras: Cameras, height: int, width: int, band: float = _BAND) -> Tensor:
    """Which cells of which views can show the same point.

    A cell sees others near the line on which the ray through its centre appears in their view, and all of its own view.

    Args:
        cameras: Of F views, ``[..., F]``.
        height: Rows of cells in a view.
        width: Columns.
        band: Greatest distance to the line, in cells.

    Returns:
        Bool ``[..., F * height * width, F * height * width]``: whether the cell of a row attends to that of a column;
        cells are ordered by view, row, column.
    """
    _, directions = cameras.rays(height, width)
    directions = directions.flatten(-3, -2)[..., :, None, :, :]  # [..., F, 1, N, 3]
    centers = cameras.centers
    baseline = (centers[..., None, :, :] - centers[..., :, None, :])[..., None, :]  # from the first view to the second
    normals = torch.linalg.cross(
        *torch.broadcast_tensors(directions, baseline)
    )  # of epipolar planes, [..., F, F, N, 3]
    # In the second view's camera axes, a plane through its centre meets the image in a line a u + b v + c = 0.
    axes = cameras.poses[..., None, :, None, :, :3]
    right, up, backward = (normals[..., None] * axes).sum(-2).unbind(-1)
    fx, fy, cx, cy = (cameras.intrinsics[..., None, :, None, k] for k in range(4))
    a, b, c = right / fx, -up / fy, up * cy / fy - right * cx / fx - backward
    u = ((torch.arange(width, device=a.device) + 0.5) / width).repeat(height)
    v = ((torch.arange(height, device=a.device) + 0.5) / height).repeat_interleave(width)
    offset = (a[..., None] * u + b[..., None] * v + c[..., None]).abs()
    near = offset <= band * torch.hypot(a / width, b / height)[..., None]  # [..., F, F, N, N]
    near |= torch.eye(cameras.shape[-1], dtype=torch.bool, device=a.device)[:, :, None, None]
    return near.transpose(-3, -2).flatten(-4, -3).flatten(-2, -1)


class JointViewAttention(nn.Module):
    """Attention among the cells of all views, behind an epipolar mask, as a residual that starts as zero.

    Args:
        channels: Of the features.
        groups: Of the normalisation before it.
    """

    def __init__(self, channels: int, groups: int = 32) -> None:
        super().__init__()
        self.heads = max(channels // 64, 1)
        self.norm = nn.GroupNorm(groups, channels)
        self.to_qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.to_out = nn.Linear(channels, channels)
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)
        self.cameras: Cameras | None = None
        """Of the frames that are about to be denoised, ``[B, F]``."""

    def tell(self, backbone: nn.Module, arguments: tuple[Tensor, Tensor, Conditioning]) -> None:
        """Forward pre-hook of the backbone: remember the cameras."""
        inputs, _, conditioning = arguments
        assert isinstance(backbone, VideoBackbone)
        self.cameras = told_cameras(backbone, inputs, conditioning)

    def add(self, block: nn.Module, arguments: Any, features: Tensor) -> Tensor:
        """Forward hook of the U-Net's middle block."""
        assert self.cameras is not None
        return features + self(features, self.cameras)

    def forward(self, features: Tensor, cameras: Cameras) -> Tensor:
        """The residual, ``[B * F, C, h, w]`` as the features; cameras ``[B, F]``."""
        batch, frames = cameras.shape
        height, width = features.shape[-2:]
        normed = self.norm(features.to(self.norm.weight.dtype))
        tokens = normed.unflatten(0, (batch, frames)).flatten(3).transpose(2, 3).flatten(1, 2)
        query, key, value = self.to_qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mask = epipolar_mask(cameras, height, width)[:, None]
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        out = self.to_out(attended.transpose(1, 2).flatten(2)).to(features.dtype)
        return out.unflatten(1, (frames, -1)).transpose(2, 3).reshape(features.shape)


def add_joint_attention(backbone: VideoBackbone) -> None:
    """Let a U-Net's views attend to each other along epipolar lines of `Conditioning.cameras`, in its middle block.

    The attention is trained whatever else is (`fresh`). Its mask has (F h w)^2 entries for h x w cells of the middle
    block: 1024^2 for 16 frames of 512 pixels.

    Raises:
        UsageError: if the denoiser is no U-Net, or has it already.
    """
    denoiser: Any = backbone.denoiser
    block = getattr(denoiser, "mid_block", None)
    if not isinstance(block, nn.Module) or hasattr(denoiser, JOINT):
        raise UsageError(
            f"Attention among views cannot be added to this {backbone.name} model: it is there already, or this is no "
            "U-Net; leave `joint_attention` out."
        )
    joint = JointViewAttention(denoiser.config.block_out_channels[-1], denoiser.config.get("norm_num_groups", 32))
    denoiser.add_module(JOINT, joint)
    block.register_forward_hook(joint.add)
    backbone.register_forward_pre_hook(joint.tell)
    backbone.reads_cameras = True
    backbone.fresh |= {f"{JOINT}.{name}" for name, _ in joint.named_parameters()}
