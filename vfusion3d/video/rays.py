"""Plücker rays of every frame's camera as more input channels of a denoiser (an option of the paper's supplement)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vfusion3d.cameras import Cameras
from vfusion3d.errors import UsageError
from vfusion3d.video.backbone import Conditioning, VideoBackbone, told_cameras

RAYS = "ray_channels"
"""What the denoiser calls the part that reads rays."""


def pluecker_rays(cameras: Cameras, height: int, width: int) -> Tensor:
    """Moment ``o x d`` and unit direction ``d`` of the ray through every pixel's centre, in the world.

    Unlike origin and direction they are the same wherever on the ray one starts.

    Args:
        cameras: Of any shape ``[...]``.
        height: Rows.
        width: Columns.

    Returns:
        ``[..., 6, height, width]``; the moment is in world units.
    """
    origins, directions = cameras.rays(height, width)
    return torch.cat([torch.linalg.cross(origins, directions), directions], -1).movedim(-1, -3)


class RayChannels(nn.Module):
    """The part of a first convolution that six more input channels add: one of its own, summed with the first's result.

    It starts as zeros, so that the denoiser starts as it was, and leaves the first convolution's own weights alone.

    Args:
        first: The denoiser's first convolution.
    """

    def __init__(self, first: nn.Conv2d | nn.Conv3d) -> None:
        super().__init__()
        kind: Any = type(first)
        shape = (first.kernel_size, first.stride, first.padding)
        self.convolution = kind(6, first.out_channels, *shape, bias=False)
        nn.init.zeros_(self.convolution.weight)
        self.rays: Tensor | None = None
        """Of the frames that are about to be denoised, ``[B, F, 6, h, w]``."""

    def tell(self, backbone: nn.Module, arguments: tuple[Tensor, Tensor, Conditioning]) -> None:
        """Forward pre-hook of the backbone: remember the rays at the latents' resolution."""
        inputs, _, conditioning = arguments
        assert isinstance(backbone, VideoBackbone)
        self.rays = pluecker_rays(told_cameras(backbone, inputs, conditioning), *inputs.shape[-2:])

    def add(self, first: nn.Module, arguments: Any, result: Tensor) -> Tensor:
        """Forward hook of the first convolution."""
        assert self.rays is not None
        over_time = self.convolution.weight.ndim == 5  # [B, C, F, h, w] instead of [B F, C, h, w]
        rays = self.rays.transpose(1, 2) if over_time else self.rays.flatten(0, 1)
        return result + self.convolution(rays.to(self.convolution.weight.dtype)).to(result.dtype)


def add_ray_channels(backbone: VideoBackbone) -> None:
    """Let a backbone read `pluecker_rays` of `Conditioning.cameras`; they are trained whatever else is (`fresh`).

    Raises:
        UsageError: if its denoiser has no first convolution, or reads rays already.
    """
    denoiser = backbone.denoiser
    first = getattr(denoiser, "conv_in", None) or getattr(denoiser, "patch_embedding", None)
    if not isinstance(first, (nn.Conv2d, nn.Conv3d)) or hasattr(denoiser, RAYS):
        raise UsageError(
            f"Ray channels cannot be added to this {backbone.name} model, which has them already or has no first "
            "convolution; leave `ray_channels` out."
        )
    channels = RayChannels(first)
    denoiser.add_module(RAYS, channels)
    first.register_forward_hook(channels.add)
    backbone.register_forward_pre_hook(channels.tell)
    backbone.reads_cameras = True
    backbone.fresh |= {f"{RAYS}.convolution.weight"}
