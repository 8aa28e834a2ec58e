"""From pictures to latents and back, a few frames at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LatentCodec(nn.Module, ABC):
    """Turns pictures into latents of the scale that a denoiser is trained on."""

    channels: int
    """Channels of a latent."""
    factor: int
    """Pixels a side that one latent stands for."""
    scale: float = 1.0
    """What the autoencoder's own latents are multiplied by."""

    @abstractmethod
    def encode_frames(self, pictures: Tensor) -> Tensor:
        """``[N, 3, H, W]`` in [0, 1] to ``[N, C, H / factor, W / factor]``."""

    @abstractmethod
    def decode_frames(self, latents: Tensor) -> Tensor:
        """The inverse, as near as it comes; not clipped to [0, 1]."""

    def encode(self, video: Tensor, chunk: int = 8) -> Tensor:
        """``[B, F, 3, H, W]`` in [0, 1] to ``[B, F, C, h, w]``, ``chunk`` frames at a time."""
        frames = video.flatten(0, 1).split(chunk)
        return torch.cat([self.encode_frames(part) for part in frames]).unflatten(0, video.shape[:2])

    def decode(self, latents: Tensor, chunk: int = 8) -> Tensor:
        """``[B, F, C, h, w]`` to ``[B, F, 3, H, W]`` in [0, 1], ``chunk`` frames at a time."""
        frames = latents.flatten(0, 1).split(chunk)
        return torch.cat([self.decode_frames(part) for part in frames]).clamp(0, 1).unflatten(0, latents.shape[:2])


class PixelCodec(LatentCodec):
    """Pixels themselves, blocks of them as channels: exact, and nothing to train; for nano models.

    Args:
        factor: Side of a block.
    """

    def __init__(self, factor: int = 2) -> None:
        super().__init__()
        self.factor, self.channels = factor, 3 * factor**2

    def encode_frames(self, pictures: Tensor) -> Tensor:
        """Blocks as channels, in [-1, 1]."""
        return F.pixel_unshuffle(pictures * 2 - 1, self.factor)

    def decode_frames(self, latents: Tensor) -> Tensor:
        """Channels as blocks."""
        return F.pixel_shuffle(latents, self.factor) / 2 + 0.5
