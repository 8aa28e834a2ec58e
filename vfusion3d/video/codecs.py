"""From pictures to latents and back, a few frames at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder
from torch import Tensor

from vfusion3d.errors import UsageError
from vfusion3d.video.frozen import Frozen


class LatentCodec(Frozen, ABC):
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
        channels: Of a latent, where a denoiser wants more than a block has: the rest is zeros.

    Raises:
        UsageError: if a block has more channels.
    """

    def __init__(self, factor: int = 2, channels: int | None = None) -> None:
        super().__init__()
        self.factor, self.channels = factor, channels or 3 * factor**2
        if self.channels < 3 * factor**2:
            raise UsageError(f"Argument `channels` must be at least {3 * factor**2}, but got {channels}.")

    def encode_frames(self, pictures: Tensor) -> Tensor:
        """Blocks as channels, in [-1, 1]."""
        latents = F.pixel_unshuffle(pictures * 2 - 1, self.factor)
        return F.pad(latents, (0, 0, 0, 0, 0, self.channels - latents.shape[1]))

    def decode_frames(self, latents: Tensor) -> Tensor:
        """Channels as blocks."""
        return F.pixel_shuffle(latents[:, : 3 * self.factor**2], self.factor) / 2 + 0.5


class CosineCodec(LatentCodec):
    """The low frequencies of blocks of pixels, finer in brightness than in colour, as in JPEG; nothing to train.

    A latent is a cosine transform of 4 x 4 pixels and their channels: of brightness 10 of 16 frequencies, of two
    differences of colour 3 each, all orthogonal. White is zero, so that an empty background is. What pictures have less
    of is scaled up, so that it counts: frequencies (u, v) by ``1 + u + v`` and colour by 3. The variance of orbits of
    procedural objects is then about one, as diffusion wants it. Compared with `PixelCodec`, noise hides what is fine
    before it hides what is large.
    """

    channels, factor = 16, 4
    filters: Tensor
    gains: Tensor

    def __init__(self) -> None:
        super().__init__()
        place, frequency = torch.arange(4.0), torch.arange(4.0)[:, None]
        waves = torch.cos(torch.pi * (place + 0.5) * frequency / 4) * torch.where(frequency == 0, 0.5, 0.5**0.5)
        colours = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]])
        colours = colours / colours.norm(dim=1, keepdim=True)
        kept = [(c, u, v) for c, below in enumerate((4, 2, 2)) for u in range(4) for v in range(4) if u + v < below]
        filters = torch.stack([colours[c][:, None, None] * waves[u][:, None] * waves[v] for c, u, v in kept])
        # Of a grey block, the first coefficient is 4 sqrt(3) times the value; as a latent 8 times.
        gains = torch.tensor([(1.0 + u + v) * (3 if c else 1) for c, u, v in kept]) * 8 / (4 * 3**0.5)
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("gains", gains[:, None, None], persistent=False)

    def encode_frames(self, pictures: Tensor) -> Tensor:
        """Coefficients of each block."""
        return F.conv2d(pictures - 1, self.filters.to(pictures), stride=4) * self.gains.to(pictures)

    def decode_frames(self, latents: Tensor) -> Tensor:
        """Blocks of the frequencies that are there."""
        return F.conv_transpose2d(latents / self.gains.to(latents), self.filters.to(latents), stride=4) + 1


def _own_precision(device: torch.device) -> AbstractContextManager[Any]:
    """No autocast, which the meta device does not know."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


class KLCodec(LatentCodec):
    """A variational autoencoder of diffusers, frozen. A latent is the mode of its posterior, so that it is the same
    each time, multiplied by the autoencoder's ``scaling_factor``.

    Args:
        vae: As Stable Diffusion's.
    """

    def __init__(self, vae: AutoencoderKL | AutoencoderKLTemporalDecoder) -> None:
        super().__init__()
        self.vae: Any = vae
        self.scale, self.channels = self.vae.config.scaling_factor, self.vae.config.latent_channels
        self.factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.freeze()

    def encode_frames(self, pictures: Tensor) -> Tensor:
        """In the autoencoder's own precision, also under autocast: some overflow in float16."""
        with _own_precision(pictures.device):
            posterior = self.vae.encode((pictures * 2 - 1).to(self.vae.dtype)).latent_dist
            return posterior.mode() * self.scale  # type: ignore[no-any-return]

    def decode_frames(self, latents: Tensor) -> Tensor:
        """In the autoencoder's own precision."""
        with _own_precision(latents.device):
            return self._decode(latents.to(self.vae.dtype) / self.scale) / 2 + 0.5

    def _decode(self, latents: Tensor) -> Tensor:
        return self.vae.decode(latents).sample  # type: ignore[no-any-return]


class TemporalKLCodec(KLCodec):
    """Stable Video Diffusion's autoencoder, whose decoder looks at neighbouring frames: those of a chunk, and never
    those of another video.

    Args:
        vae: As Stable Video Diffusion's.
    """

    def decode(self, latents: Tensor, chunk: int = 8) -> Tensor:
        """Each video by itself; larger chunks flicker less and take more memory."""
        videos = [torch.cat([self.decode_frames(part) for part in video.split(chunk)]) for video in latents]
        return torch.stack(videos).clamp(0, 1)

    def _decode(self, latents: Tensor) -> Tensor:
        return self.vae.decode(latents, num_frames=len(latents)).sample  # type: ignore[no-any-return]
