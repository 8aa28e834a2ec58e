"""Area-filtered resizing."""

from __future__ import annotations

import math

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
            groups, old, new = _groups(images.shape[-2], height)
            images = (_overlap(old, new, images) @ images.unflatten(-2, (groups, old))).flatten(-3, -2)
        if images.shape[-1] != width:
            groups, old, new = _groups(images.shape[-1], width)
            # Not a product with the transpose, which is several times slower for pictures whose channels come last.
            columns = images.unflatten(-1, (groups, old))
            images = torch.einsum("...go,no->...gn", columns, _overlap(old, new, images)).flatten(-2)
    return images


def _groups(old: int, new: int) -> tuple[int, int, int]:
    """Into how many parts both sizes fall, and the parts' sizes: of 512 and 384, 128 groups of 4 and of 3 pixels."""
    groups = math.gcd(old, new)
    return groups, old // groups, new // groups
