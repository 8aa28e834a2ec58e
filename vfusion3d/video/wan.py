"""Wan (arXiv 2503.20314), a diffusion transformer over all frames at once, as an orbit generator."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import Tensor
from transformers import AutoTokenizer, CLIPVisionModel, UMT5EncoderModel

from vfusion3d.errors import CheckpointError
from vfusion3d.video.backbone import NO_LICENCE, Conditioning, VideoBackbone, captions, check_text
from vfusion3d.video.codecs import LatentCodec, PixelCodec
from vfusion3d.video.diffusion import FlowMatching
from vfusion3d.video.encoders import ByteText, Frozen, PooledImage, TextEncoder
from vfusion3d.video.loading import announce_licence, find_model, load_component, load_tokenizer, read_json
from vfusion3d.video.precision import cast_weights
from vfusion3d.video.wan_parts import TEXT_TOKENS, ClipTokens, Umt5Text, WanCodec

_MASKS = 4
"""Mask channels beside the first frame's latent: one for each frame that a latent of Wan's own clips stands for."""
_TINY = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "text_dim": 16,
    "ffn_dim": 32,
    "num_layers": 2,
    "image_dim": 4,
    "added_kv_proj_dim": 24,
    "in_channels": 28,
    "out_channels": 12,
}
_RELEASED = {"image_dim": 1280, "added_kv_proj_dim": 5120, "in_channels": 36, "out_channels": 16}
_RELEASED_5B = {
    "num_attention_heads": 24,
    "ffn_dim": 14336,
    "num_layers": 30,
    "in_channels": 48,
    "out_channels": 48,
}
_VAE_5B: dict[str, Any] = {
    "base_dim": 160,
    "decoder_base_dim": 256,
    "z_dim": 48,
    "is_residual": True,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_spatial": 16,
    "latents_mean": [0.0] * 48,
    "latents_std": [1.0] * 48,
}


class WanBackbone(VideoBackbone):
    """A transformer that has no temporal layers, so that low-rank updates are what trains it.

    It is conditioned on the first frame in one of two ways, which its input channels tell apart:

    - ``2 C + 4`` (Wan 2.1 image to video): beside the noisy latents the first frame's, those of grey pictures on later
      frames, and a mask; and, where it takes them, CLIP's tokens of the picture;
    - ``C`` (Wan 2.2's 5B): the first frame's latent in place of noisy ones, at time zero.

    Every view is a latent of its own (`WanCodec`).

    Args:
        transformer: Of C output channels, C the codec's.
        codec: Pictures to latents.
        text_encoder: Captions to 512 tokens; None for a model that reads zeros instead.
        image_encoder: Pictures to tokens ``[B, L, D]`` or one vector; None where the transformer takes none.
        frames: Frames of its videos.
        shift: Of the noise levels (`FlowMatching`); 3 if the model does not say.
        half: Keep the transformer and the text encoder in bfloat16, but for what diffusers keeps in float32: 14B take
            33 GB so. Low-rank updates are trained in float32 all the same.

    Raises:
        CheckpointError: if they do not fit together.
    """

    denoiser: Any
    name = "wan"
    temporal = None
    lora = r"blocks\.\d+\.attn[12]\.(to_q|to_k|to_v|to_out\.0)"
    licence = "Wan's weights are under Apache-2.0, which puts no terms on what they generate."
    presets: ClassVar[dict[str, dict[str, Any]]] = {"tiny": _TINY, "released": _RELEASED, "released_5b": _RELEASED_5B}

    def __init__(
        self,
        transformer: WanTransformer3DModel,
        codec: LatentCodec,
        text_encoder: TextEncoder | None,
        image_encoder: Frozen | None,
        *,
        frames: int = 16,
        shift: float = 3.0,
        half: bool = False,
    ) -> None:
        super().__init__()
        config, channels = transformer.config, codec.channels
        if config.in_channels not in (channels, 2 * channels + _MASKS) or config.out_channels != channels:
            raise CheckpointError(
                f"The wan transformer needs {2 * channels + _MASKS} or {channels} input and {channels} output channels "
                f"for latents of {channels}, but has {config.in_channels} and {config.out_channels}; give a model of "
                "image to video."
            )
        if (config.image_dim is None) != (image_encoder is None):
            takes, do = ("no", "leave the image encoder out") if image_encoder else ("CLIP's", "give an image encoder")
            raise CheckpointError(f"This wan transformer takes {takes} tokens of the picture: {do}.")
        self.denoiser, self.codec, self.frames = transformer, codec, frames
        self.text_encoder, self.image_encoder = text_encoder, image_encoder
        self.reads_text = text_encoder is not None
        self.process = FlowMatching(shift)
        if half:
            for model in (transformer, getattr(text_encoder, "model", None)):  # some encoders have no weights
                if model is not None:
                    cast_weights(model, torch.bfloat16)
        self._replaces = config.in_channels == channels
        self._grey: dict[tuple[int, ...], Tensor] = {}

    @classmethod
    def from_preset(cls, preset: str, **changes: Any) -> WanBackbone:
        """Random weights; encoders that need none, and for ``tiny`` the pixels as latents."""
        cls.check_options(changes)
        settings = cls.preset_of(preset)
        codec: LatentCodec = PixelCodec()
        if preset != "tiny":
            codec = WanCodec(AutoencoderKLWan(**(_VAE_5B if preset == "released_5b" else {})))
        transformer = WanTransformer3DModel(**settings)
        text = ByteText(transformer.config.text_dim, TEXT_TOKENS)
        image = None if transformer.config.image_dim is None else PooledImage(transformer.config.image_dim)
        model = cls(transformer, codec, text, image, **changes)
        model.licence = NO_LICENCE
        return model.eval()

    @classmethod
    def from_pretrained(cls, source: str, **changes: Any) -> WanBackbone:
        """A model in the layout of ``Wan-AI/Wan2.1-I2V-14B-480P-Diffusers`` or ``Wan-AI/Wan2.2-TI2V-5B-Diffusers``."""
        cls.check_options(changes)
        dtype = torch.bfloat16 if changes.get("half") else torch.float32
        folder = find_model(source, ("transformer", "vae", "text_encoder", "tokenizer"))
        if (folder / "transformer_2").is_dir() or read_json(folder / "model_index.json").get("boundary_ratio"):
            raise CheckpointError(
                f"{source} has two transformers, one for high and one for low noise, and only models of one can be "
                "trained here: give Wan 2.1's image-to-video model, or Wan 2.2's 5B."
            )
        transformer = load_component(folder, "transformer", WanTransformer3DModel, dtype)
        image_encoder = None
        if transformer.config.image_dim is not None:
            folder = find_model(source, ("image_encoder",))
            image_encoder = ClipTokens(load_component(folder, "image_encoder", CLIPVisionModel))
        model = cls(
            transformer,
            WanCodec(load_component(folder, "vae", AutoencoderKLWan)),
            Umt5Text(
                load_component(folder, "text_encoder", UMT5EncoderModel, dtype), load_tokenizer(folder, AutoTokenizer)
            ),
            image_encoder,
            **{"shift": _shift_of(folder), **changes},
        )
        announce_licence(source, cls.licence)
        return model.eval()

    @property
    def multiple(self) -> int:
        """The latents' sides must be even: the transformer reads patches of 2 x 2."""
        return self.codec.factor * self.denoiser.config.patch_size[1]  # type: ignore[no-any-return]

    @torch.no_grad()
    def condition(
        self,
        images: Tensor,
        text: Sequence[str | None] | None = None,
        *,
        noise: Tensor | None = None,
        noise_level: Tensor | None = None,
    ) -> Conditioning:
        """The first frame's latent, its picture tokens and the caption's."""
        check_text(self, text)
        image = self.codec.encode(self.noisy(images, noise, noise_level)[:, None])[:, 0]
        embedding = None
        if self.image_encoder is not None:
            embedding = self.image_encoder(images)
            embedding = embedding[:, None] if embedding.ndim == 2 else embedding
        if self.text_encoder is None:
            tokens = images.new_zeros(len(images), TEXT_TOKENS, self.denoiser.config.text_dim)
        else:
            tokens = self.text_encoder(captions(text, len(images)))
        return Conditioning(image, tokens, embedding, image_kept=images.new_ones(len(images)))

    def dropped(self, conditioning: Conditioning, image: Tensor, text: Tensor) -> Conditioning:
        """A dropped picture is a grey one, its mask and tokens zeros; a dropped caption is the empty one."""
        assert conditioning.image_kept is not None
        tokens = conditioning.text if self.text_encoder is None else self.text_encoder.drop(conditioning.text, text)
        embedding = conditioning.embedding
        return dataclasses.replace(
            conditioning,
            image=torch.where(image[:, None, None, None], self._grey_like(conditioning.image), conditioning.image),
            text=tokens,
            embedding=None if embedding is None else embedding.masked_fill(image[:, None, None], 0),
            image_kept=conditioning.image_kept.masked_fill(image, 0),
        )

    def forward(self, inputs: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Put the first frame in, denoise."""
        assert conditioning.image_kept is not None
        if self._replaces:
            return self._with_first_frame(inputs, timesteps, conditioning)
        first = self._grey_like(conditioning.image)[:, None].expand_as(inputs).clone()
        first[:, 0] = conditioning.image
        mask = inputs.new_zeros(*inputs.shape[:2], _MASKS, *inputs.shape[3:])
        mask[:, 0] = conditioning.image_kept[:, None, None, None]
        return self._denoise(torch.cat([inputs, mask, first], 2), timesteps, conditioning)

    def _with_first_frame(self, inputs: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """The first frame as it is, told to be clean; of it the raw output is the velocity that leads there, so that
        training asks nothing of the model on it and solvers arrive at it.
        """
        assert conditioning.image_kept is not None
        kept = conditioning.image_kept.bool()[:, None, None, None]
        filled = inputs.clone()
        filled[:, 0] = torch.where(kept, conditioning.image, inputs[:, 0])
        _, *patch = self.denoiser.config.patch_size
        cells = (inputs.shape[-2] // patch[0]) * (inputs.shape[-1] // patch[1])
        times = timesteps[:, None].expand(-1, inputs.shape[1]).clone()
        times[:, 0] = timesteps.masked_fill(kept.flatten(), 0)
        raw = self._denoise(filled, times.repeat_interleave(cells, 1), conditioning)
        level = (timesteps / 1000).to(inputs).clamp(min=1e-3)[:, None, None, None]
        known = (inputs[:, 0] - conditioning.image) / level
        return torch.cat([torch.where(kept, known, raw[:, 0])[:, None], raw[:, 1:]], 1)

    def _denoise(self, inputs: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        dtype = self.denoiser.dtype
        assert conditioning.text is not None
        raw = self.denoiser(
            inputs.transpose(1, 2).to(dtype),
            timesteps,
            conditioning.text.to(dtype),
            None if conditioning.embedding is None else conditioning.embedding.to(dtype),
            return_dict=False,
        )[0]
        return raw.transpose(1, 2)  # type: ignore[no-any-return]

    @torch.no_grad()
    def _grey_like(self, latents: Tensor) -> Tensor:
        """Latent of a grey picture, ``[1, C, h, w]``: what stands where Wan is shown nothing."""
        size = tuple(side * self.codec.factor for side in latents.shape[-2:])
        if size not in self._grey:
            self._grey[size] = self.codec.encode(latents.new_full((1, 1, 3, *size), 0.5))[:, 0]
        return self._grey[size].to(latents)


def _shift_of(folder: Path) -> float:
    """Shift of the noise levels that a model was made for."""
    path = folder / "scheduler" / "scheduler_config.json"
    settings = read_json(path) if path.is_file() else {}
    return float(settings.get("flow_shift") or settings.get("shift") or 3.0)
