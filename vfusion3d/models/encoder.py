"""Picture to tokens: a small ViT with a convolutional stem, or DINOv2 (`vfusion3d.models.dinov2`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vfusion3d.models.config import ReconstructorConfig

if TYPE_CHECKING:
    from vfusion3d.models.dinov2 import DinoEncoder


class ImageFeatures(NamedTuple):
    """What the encoder saw."""

    tokens: Tensor
    """``[B, T, encoder_dim]``."""
    pixels: Tensor | None
    """Features on the picture's own grid, ``[B, pixel_aligned_channels, h, w]``, if the model uses them."""


def build_encoder(config: ReconstructorConfig) -> StemViT | DinoEncoder:
    """The encoder of a configuration, with random weights; called with ``[B, 3 or 4, S, S]``."""
    if config.encoder == "vit":
        return StemViT(config)
    from vfusion3d.models.dinov2 import DinoEncoder

    return DinoEncoder(config)


def per_channel(numbers: Sequence[float]) -> Tensor:
    """``[C, 1, 1]``, real also where modules are built without memory: no file has these buffers."""
    device = "cpu" if torch.get_default_device().type == "meta" else None
    return torch.tensor(numbers, device=device).view(-1, 1, 1)


class StemViT(nn.Module):
    """A small ViT whose patches come from a convolutional stem, with features for pixel alignment.

    The stem halves the picture until a token covers ``patch_size`` pixels (arXiv 2106.14881); its maps
    refine the tokens for pixel alignment.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: ReconstructorConfig) -> None:
        super().__init__()
        halvings = config.patch_size.bit_length() - 1
        if 2**halvings != config.patch_size or halvings < 1 or config.image_size % config.patch_size:
            raise ValueError(
                "Field `patch_size` must be a power of two that divides `image_size` for the 'vit' encoder, "
                f"but got {config.patch_size} and {config.image_size}."
            )
        channels = 4 if config.image_alpha else 3
        dim = config.encoder_dim
        widths = [channels] + [max(24, dim // 2 ** (halvings - 1 - k)) for k in range(halvings - 1)] + [dim]
        self.stem = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1), nn.GroupNorm(4, b), nn.GELU())
            for a, b in pairwise(widths)
        )
        side = config.image_size // config.patch_size
        self.positions = nn.Parameter(torch.randn(1, side * side, dim) * 0.02)
        layer = nn.TransformerEncoderLayer(
            dim, config.encoder_heads, 4 * dim, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, config.encoder_layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(dim)
        self.gradient_checkpointing = False
        self.pyramid = FeaturePyramid(config, channels, widths[1:]) if config.pixel_aligned_channels else None
        self.register_buffer("mean", per_channel([*config.image_mean, 0.5][:channels]), persistent=False)
        self.register_buffer("std", per_channel([*config.image_std, 0.5][:channels]), persistent=False)

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer's layers, all alike."""
        return cast(nn.ModuleList, self.layers.layers)

    def forward(self, images: Tensor) -> ImageFeatures:
        """Tokens ``[B, n^2, encoder_dim]`` and pixel features of pictures ``[B, 3 or 4, S, S]`` in [0, 1]."""
        x = pixels = ((images - self.mean) / self.std).to(self.positions.dtype)
        maps = []
        for stage in self.stem:
            x = stage(x)
            maps.append(x)
        x = x.flatten(2).transpose(1, 2) + self.positions
        for layer in self.blocks:
            recompute = self.gradient_checkpointing and torch.is_grad_enabled()
            x = checkpoint(layer, x, use_reentrant=False) if recompute else layer(x)
        tokens = self.norm(x)
        return ImageFeatures(tokens, None if self.pyramid is None else self.pyramid(pixels, maps[:-1], tokens))


class FeaturePyramid(nn.Module):
    """Tokens refined by the stem's maps, coarse to fine, to features at half the picture's resolution (as FPN, arXiv
    1612.03144).

    Args:
        config: The architecture.
        channels: Of the picture.
        widths: Of the stem's maps, fine to coarse, the last being the tokens' own.
    """

    def __init__(self, config: ReconstructorConfig, channels: int, widths: list[int]) -> None:
        super().__init__()
        dim = config.pixel_aligned_channels
        self.broad = nn.Linear(config.encoder_dim, dim)
        self.lateral = nn.ModuleList(nn.Conv2d(width, dim, 1) for width in widths[:-1])
        self.merge = nn.ModuleList(
            nn.Sequential(nn.Conv2d(dim, dim, 3, padding=1), nn.GroupNorm(math.gcd(4, dim), dim), nn.GELU())
            for _ in widths[:-1]
        )
        self.fine = nn.Conv2d(dim + channels, dim, 3, padding=1)

    def forward(self, pixels: Tensor, maps: list[Tensor], tokens: Tensor) -> Tensor:
        """Features ``[B, dim, S / 2, S / 2]`` of pictures ``[B, C, S, S]``, stem maps and tokens ``[B, n^2, D]``."""
        x = self.broad(tokens).transpose(1, 2)
        side = int(x.shape[-1] ** 0.5)
        x = x.unflatten(-1, (side, side))
        for level in reversed(range(len(maps))):
            x = F.interpolate(x, size=maps[level].shape[-2:], mode="bilinear", align_corners=False)
            x = self.merge[level](x + self.lateral[level](maps[level]))
        x = F.interpolate(x, size=[size // 2 for size in pixels.shape[-2:]], mode="bilinear", align_corners=False)
        return self.fine(torch.cat([x, F.avg_pool2d(pixels, 2).to(x.dtype)], dim=1)).float()
