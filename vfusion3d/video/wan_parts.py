"""What Wan's transformer stands between: its video autoencoder, its text encoder and its picture encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from torch import Tensor

from vfusion3d.video.codecs import LatentCodec
from vfusion3d.video.encoders import CLIP_MEAN, CLIP_STD, Frozen, TextEncoder

TEXT_TOKENS = 512
"""How many tokens of text diffusers' Wan takes, always."""


class WanCodec(LatentCodec):
    """Wan's video autoencoder, each view a clip of its own.

    It squeezes four frames into one latent and gives 13 frames back for 16; views of an orbit lie too far apart for
    that, and a clip of one frame comes back as one frame.

    Args:
        vae: ``AutoencoderKLWan`` of diffusers; latents are normalised by its ``latents_mean`` and ``latents_std``.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, vae: AutoencoderKLWan) -> None:
        super().__init__()
        self.vae, self.channels = vae, vae.config.z_dim
        self.factor = 2 ** (len(vae.config.dim_mult) - 1) * (vae.config.patch_size or 1)
        self.register_buffer("mean", torch.tensor(vae.config.latents_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(vae.config.latents_std).view(-1, 1, 1), persistent=False)
        self.freeze()

    def encode_frames(self, pictures: Tensor) -> Tensor:
        """The posterior's mode, normalised."""
        clips = (pictures * 2 - 1)[:, :, None].to(self.vae.dtype)
        mode = self.vae.encode(clips).latent_dist.mode()[:, :, 0]
        return (mode.to(pictures.dtype) - self.mean) / self.std

    def decode_frames(self, latents: Tensor) -> Tensor:
        """The inverse, clipped by the autoencoder itself."""
        clips = (latents * self.std + self.mean)[:, :, None].to(self.vae.dtype)
        return self.vae.decode(clips).sample[:, :, 0].to(latents.dtype) / 2 + 0.5


class Umt5Text(TextEncoder):
    """UMT5's last hidden states, zero where a caption has ended.

    Args:
        model: ``UMT5EncoderModel`` of transformers.
        tokenizer: Its tokenizer.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__()
        self.model, self.tokenizer, self.width = model, tokenizer, model.config.d_model
        self.freeze()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    def encode(self, texts: Sequence[str]) -> Tensor:
        """``[B, 512, width]``; white space is tidied as in Wan's training."""
        tidy = [" ".join(text.split()) for text in texts]
        tokens = self.tokenizer(
            tidy, padding="max_length", max_length=TEXT_TOKENS, truncation=True, return_tensors="pt"
        ).to(self.device)
        states = self.model(tokens.input_ids, tokens.attention_mask).last_hidden_state
        return states * tokens.attention_mask[..., None]  # type: ignore[no-any-return]


class ClipTokens(Frozen):
    """All tokens of a CLIP vision model's last but one layer, ``[B, L, width]``.

    Args:
        model: ``CLIPVisionModel`` of transformers.
    """

    model: Any
    mean: Tensor
    std: Tensor

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.width = model, model.config.hidden_size
        self.register_buffer("mean", torch.tensor(CLIP_MEAN).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(CLIP_STD).view(-1, 1, 1), persistent=False)
        self.freeze()

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """From pictures ``[B, 3, H, W]`` in [0, 1], resized by antialiased bicubic interpolation."""
        side = self.model.config.image_size
        resized = F.interpolate(images, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
        pixels = ((resized - self.mean) / self.std).to(next(self.model.parameters()).dtype)
        return self.model(pixels, output_hidden_states=True).hidden_states[-2]  # type: ignore[no-any-return]
