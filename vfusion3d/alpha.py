"""Premultiplied alpha, in which pictures are resampled and compared, and what comes of it."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def over_white(rgba: Tensor) -> Tensor:
    """Premultiplied RGBA ``[..., 4, H, W]`` on white, ``[..., 3, H, W]``."""
    return rgba[..., :3, :, :] + (1 - rgba[..., 3:, :, :])


def pixels_over_white(rgba: np.ndarray) -> np.ndarray:
    """Straight-alpha pixels, uint8 ``[..., 4]``, on white, uint8 ``[..., 3]``; those without alpha as they are."""
    if rgba.shape[-1] == 3:
        return rgba
    alpha = rgba[..., 3:] / 255
    return (rgba[..., :3] * alpha + 255 * (1 - alpha) + 0.5).astype(np.uint8)


def rgb_pixels(pictures: Tensor) -> np.ndarray:
    """RGB ``[..., 3, H, W]`` in [0, 1], clipped, as files hold it: uint8 ``[..., H, W, 3]``."""
    return (pictures.float().clamp(0, 1) * 255).round().to(torch.uint8).movedim(-3, -1).cpu().numpy()


def straight_pixels(rgba: Tensor) -> np.ndarray:
    """Premultiplied RGBA ``[..., 4, H, W]`` in [0, 1] as files hold it: uint8 ``[..., H, W, 4]``, straight alpha."""
    colour, alpha = rgba[..., :3, :, :], rgba[..., 3:, :, :]
    straight = torch.cat([colour / alpha.clamp_min(1e-6), alpha], -3).clamp(0, 1)
    return (straight * 255).round().to(torch.uint8).movedim(-3, -1).cpu().numpy()


def premultiplied_pixels(rgba: Image.Image) -> np.ndarray:
    """A picture of any mode with its colours multiplied by alpha and rounded: uint8 ``[H, W, 4]``."""
    if rgba.mode in ("RGB", "L"):  # opaque: nothing to multiply
        return np.array(rgba.convert("RGBA"))
    return np.array(rgba.convert("RGBA").convert("RGBa"))
