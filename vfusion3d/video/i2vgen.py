"""I2VGen-XL: picture and text to video (arXiv 2311.04145)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKL, I2VGenXLUNet
from torch import Tensor
from transformers import CLIPTextModel, CLIPVisionModelWithProjection

from vfusion3d.video.backbone import NO_LICENCE, Conditioning, VideoBackbone, captions
from vfusion3d.video.codecs import KLCodec, LatentCodec, PixelCodec
from vfusion3d.video.diffusion import VariancePreserving
from vfusion3d.video.encoders import ByteText, ClipImage, ClipText, ImageEncoder, PooledImage, TextEncoder
from vfusion3d.video.loading import announce_licence, find_model, load_component, load_tokenizer
from vfusion3d.video.unet import TEMPORAL_ATTENTION, check_fit, coarsest, released_codec

_CHANNELS = 4  # diffusers' U-Net takes no other number for the first frame
_TINY = {
    "sample_size": 8,
    "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
    "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
    "block_out_channels": (16, 32),
    "norm_num_groups": 8,
    "layers_per_block": 1,
    "cross_attention_dim": 32,
    "attention_head_dim": 8,
}


class I2VGenBackbone(VideoBackbone):
    """A 3D U-Net beside whose noisy latents lie the first frame's latent and, for each later frame, a plane of its
    place; it attends to text and to the picture's CLIP embedding.

    Args:
        unet: The U-Net.
        codec: Pictures to latents of four channels.
        text_encoder: Captions to tokens as wide as the U-Net's cross attention.
        image_encoder: Pictures to one vector of that width.
        frames: Frames of its videos.
        fps: Frames per second that it is told.

    Raises:
        CheckpointError: if they do not fit together.
    """

    name = "i2vgen"
    temporal = r"(temp_convs|temp_attentions|transformer_in|image_latents_temporal_encoder)\."
    lora = TEMPORAL_ATTENTION
    licence = (
        "I2VGen-XL was trained on WebVid-10M and LAION-400M, and its authors intend it for research and non-commercial "
        "use only: what it generates should stay within that."
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {"tiny": _TINY, "released": {}}
    reads_text = True

    def __init__(
        self,
        unet: I2VGenXLUNet,
        codec: LatentCodec,
        text_encoder: TextEncoder,
        image_encoder: ImageEncoder,
        *,
        frames: int = 16,
        fps: int = 16,
    ) -> None:
        super().__init__()
        check_fit(self.name, unet, codec, _CHANNELS, text_encoder=text_encoder.width, image_encoder=image_encoder.width)
        self.denoiser, self.codec, self.text_encoder, self.image_encoder = unet, codec, text_encoder, image_encoder
        self.frames, self.fps = frames, fps
        self.process = VariancePreserving("squaredcos_cap_v2")

    @classmethod
    def from_preset(cls, preset: str, **changes: Any) -> I2VGenBackbone:
        """Random weights; encoders without any, and the pixels as latents but in ``released``."""
        cls.check_options(changes)
        unet: Any = I2VGenXLUNet(**cls.preset_of(preset))
        codec = released_codec(AutoencoderKL) if preset == "released" else PixelCodec(1, channels=_CHANNELS)
        width = unet.config.cross_attention_dim
        model = cls(unet, codec, ByteText(width), PooledImage(width), **changes)
        model.licence = NO_LICENCE
        return model.eval()

    @classmethod
    def from_pretrained(cls, source: str, **changes: Any) -> I2VGenBackbone:
        """``ali-vilab/i2vgen-xl`` or what has its layout."""
        cls.check_options(changes)
        folder = find_model(source, ("unet", "vae", "text_encoder", "tokenizer", "image_encoder"))
        model = cls(
            load_component(folder, "unet", I2VGenXLUNet),
            KLCodec(load_component(folder, "vae", AutoencoderKL)),
            ClipText(load_component(folder, "text_encoder", CLIPTextModel), load_tokenizer(folder)),
            ClipImage(load_component(folder, "image_encoder", CLIPVisionModelWithProjection)),
            **changes,
        )
        announce_licence(source, cls.licence)
        return model.eval()

    @property
    def smallest(self) -> int:
        """One cell of the U-Net's coarsest grid."""
        return self.multiple * coarsest(self.denoiser)

    @torch.no_grad()
    def condition(
        self,
        images: Tensor,
        text: Sequence[str | None] | None = None,
        *,
        noise: Tensor | None = None,
        noise_level: Tensor | None = None,
    ) -> Conditioning:
        """The first frame's latent and CLIP embedding, and the text's tokens."""
        noisy = self.noisy(images, noise, noise_level)
        return Conditioning(
            image=self.codec.encode(noisy[:, None])[:, 0],
            text=self.text_encoder(captions(text, len(images))),
            embedding=self.image_encoder(images),
        )

    def dropped(self, conditioning: Conditioning, image: Tensor, text: Tensor) -> Conditioning:
        """A dropped picture is zeros, as latent and as embedding; a dropped text is the empty one."""
        assert conditioning.embedding is not None
        return dataclasses.replace(
            conditioning,
            image=conditioning.image.masked_fill(image[:, None, None, None], 0),
            embedding=conditioning.embedding.masked_fill(image[:, None], 0),
            text=self.text_encoder.drop(conditioning.text, text),
        )

    def forward(self, inputs: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Planes of the frames' places behind the first latent; denoise."""
        dtype, frames = self.denoiser.dtype, inputs.shape[1]
        places = torch.arange(frames, device=inputs.device) / max(frames - 1, 1)
        first = places.to(dtype)[:, None, None, None].expand(inputs.shape).clone()
        first[:, 0] = conditioning.image.to(dtype)
        assert conditioning.text is not None and conditioning.embedding is not None
        raw = self.denoiser(
            inputs.to(dtype).transpose(1, 2),
            timesteps,
            fps=torch.full_like(timesteps, self.fps),
            image_latents=first.transpose(1, 2),
            image_embeddings=conditioning.embedding.to(dtype),
            encoder_hidden_states=conditioning.text.to(dtype),
            return_dict=False,
        )[0]
        return raw.transpose(1, 2)  # type: ignore[no-any-return]
