"""Area-filtered resizing."""

from __future__ import annotations

import torch
from torch import Tensor


def _overlap(old: int, new: int, like: Tensor) -> Tensor:
    """Share of each old pixel in each new one, ``[new, old]``; rows sum to 1."""
    edges = torch.arange(new + 1, dtype=torch.float64) * (old / new)
    pixels = torch.arange(old, dtype=torch.float64)
    low = torch.maximum(edges[:-1, None], pixels)
    high = torch.minimum(edges[1:, None], pixels + 1)
    return ((high - low).clamp_min(0) * (new / old)).to(like)


def area_resize(images: Tensor, height: int, width: int) -> Tensor:
    """Every new pixel is the mean of the old image over its area.

    Args:
        images: ``[..., H, W]`` floats; RGBA must be premultiplied.
        height, width: The new size, larger or smaller.

    Returns:
        ``[..., height, width]``.

    Example:
        >>> area_resize(torch.tensor([[0.0, 1.0, 2.0, 3.0]]), 1, 2)
        tensor([[0.5000, 2.5000]])
    """
    with torch.autocast(images.device.type, enabled=False):  # targets stay as exact as their type
        if images.shape[-2] != height:
            images = _overlap(images.shape[-2], height, images) @ images
        if images.shape[-1] != width:
            images = images @ _overlap(images.shape[-1], width, images).T
    return images
