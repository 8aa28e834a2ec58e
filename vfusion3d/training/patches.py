"""Pictures to supervised patches and to model inputs, on the device.

Premultiplied RGBA throughout, so that resizing mixes no background into the object.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vfusion3d.cameras import Cameras


def patch_anchors(alpha: Tensor, patch: int, unit: Tensor, foreground: float) -> Tensor:
    """Integer corners of patches.

    Args:
        alpha: Masks ``[N, S, S]`` at the render resolution.
        patch: Side of a patch in pixels, at most S.
        unit: Uniform numbers in [0, 1), ``[N, 3]``.
        foreground: Share of patches centred (as far as they fit) on a random foreground pixel; the others
            are uniform (the paper's recipes: 0).

    Returns:
        (row, column) of the upper left corners, int64 ``[N, 2]``.
    """
    size = alpha.shape[-1]
    room = size - patch
    uniform = (unit[:, :2] * (room + 1)).long()
    mass = alpha.flatten(1).double().cumsum(-1)
    total = mass[:, -1:]
    pixel = torch.searchsorted(mass, unit[:, :1].double() * total, right=True).clamp_max(size * size - 1)[:, 0]
    centred = (torch.stack([pixel // size, pixel % size], -1) - patch // 2).clamp(0, room)
    biased = (unit[:, 2] < foreground) & (total[:, 0] > 0)
    return torch.where(biased[:, None], centred, uniform)


def crop_patches(images: Tensor, cameras: Cameras, anchors: Tensor, patch: int) -> tuple[Tensor, Cameras]:
    """Cut one patch out of each picture.

    Args:
        images: ``[N, C, S, S]``.
        cameras: ``[N]``.
        anchors: (row, column), ``[N, 2]``.
        patch: Side in pixels.

    Returns:
        Patches ``[N, C, patch, patch]`` and the cameras that render just them.
    """
    size = images.shape[-1]
    steps = torch.arange(patch, device=images.device)
    rows, columns = anchors[:, :1] + steps, anchors[:, 1:] + steps
    index = torch.arange(len(images), device=images.device)[:, None, None]
    patches = images[index, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    side = patch / size
    top, left = anchors.to(cameras.poses).div(size).unbind(-1)
    return patches, cameras.crop(left, top, side, side)


def recentre_inputs(images: Tensor, cameras: Cameras, size: int, border: Tensor) -> tuple[Tensor, Cameras]:
    """Model inputs: the object's bounding box centred in a square with a border, as at test time.

    The crop is a change of intrinsics, which the cameras carry to the model.

    Args:
        images: Premultiplied RGBA ``[B, 4, H, W]``, H == W.
        cameras: ``[B]``.
        size: Side of the result in pixels.
        border: Share of the frame left free on either side of the box's longer side, ``[B]``, in [0, 0.5).

    Returns:
        ``[B, 4, size, size]`` and the cameras of the windows. A picture without foreground keeps its frame.
    """
    height, width = images.shape[-2:]
    solid = images[:, 3] > 0.05
    rows, columns = solid.any(-1), solid.any(-2)
    top, bottom = _extent(rows, height)
    left, right = _extent(columns, width)
    side = torch.maximum(bottom - top, right - left) / (1 - 2 * border)
    side = torch.where(solid.flatten(1).any(-1), side, torch.ones_like(side))
    x, y = (left + right - side) / 2, (top + bottom - side) / 2
    return sample_window(images, x, y, side, size), cameras.crop(x, y, side, side)


def sample_window(images: Tensor, left: Tensor, top: Tensor, side: Tensor, size: int) -> Tensor:
    """Resample square windows (units of the picture, ``[B]`` each) to ``[B, C, size, size]``, antialiased.

    As many bilinear lookups per pixel and axis as a window of the whole picture needs, four at most; outside the
    picture is transparent.
    """
    factor = max(1, min(4, round(images.shape[-1] / size)))
    steps = (torch.arange(size * factor, device=images.device, dtype=images.dtype) + 0.5) / (size * factor)
    x = (left[:, None] + steps * side[:, None]) * 2 - 1
    y = (top[:, None] + steps * side[:, None]) * 2 - 1
    n = len(images)
    grid = torch.stack([x[:, None].expand(n, len(steps), -1), y[:, :, None].expand(n, -1, len(steps))], -1)
    sampled = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return F.avg_pool2d(sampled, factor) if factor > 1 else sampled


def _extent(present: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """First and last-plus-one True position along the last axis, as shares of it; ``[B]`` each."""
    first = present.float().argmax(-1)
    last = size - present.flip(-1).float().argmax(-1)
    return first / size, last / size
