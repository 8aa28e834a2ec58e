"""Emu Video's recipe on an open U-Net: picture and text to video with nine input channels (arXiv 2311.10709)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import UNet3DConditionModel
from diffusers.models.resnet import TemporalConvLayer
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from torch import Tensor, nn

from vfusion3d.errors import UsageError
from vfusion3d.video.backbone import Conditioning, VideoBackbone, check_text
from vfusion3d.video.codecs import LatentCodec, PixelCodec
from vfusion3d.video.diffusion import VariancePreserving

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


class EmuBackbone(VideoBackbone):
    """A 3D U-Net that reads noisy latents, the first frame's latent (zero on later frames) and a mask of that frame.

    Emu Video's own weights are closed; this starts as an image model repeated over the frames (`temporal_identity`).

    Args:
        unet: With ``2 C + 1`` input channels and ``C`` output channels, C the codec's.
        codec: Pictures to latents.
        frames: Frames of its videos.
    """

    name = "emu"
    temporal = r"(temp_convs|temp_attentions|transformer_in)\."
    # The last projections too: where they are zero (`temporal_identity`), updates of the others alone would do nothing.
    lora = r"(.+\.temp_attentions\.\d+|transformer_in)\.(.+\.attn[12]\.(to_q|to_k|to_v|to_out\.0)|proj_out)"
    licence = "Weights started from Stable Diffusion 2.1 are under CreativeML Open RAIL++-M, which passes its use "
    "restrictions on to what they generate."
    presets = {"tiny": _TINY}

    def __init__(self, unet: UNet3DConditionModel, codec: LatentCodec, frames: int = 16) -> None:
        super().__init__()
        wanted = (2 * codec.channels + 1, codec.channels)
        if (unet.config.in_channels, unet.config.out_channels) != wanted:
            raise UsageError(
                f"The emu U-Net needs {wanted[0]} input and {wanted[1]} output channels for a codec of "
                f"{codec.channels}, but has {unet.config.in_channels} and {unet.config.out_channels}."
            )
        self.denoiser, self.codec, self.frames = unet, codec, frames
        self.process = VariancePreserving()

    @classmethod
    def from_preset(cls, preset: str, **changes: Any) -> EmuBackbone:
        """Random weights; temporal layers start as the identity."""
        codec = PixelCodec()
        unet = UNet3DConditionModel(
            **cls.presets[preset], in_channels=2 * codec.channels + 1, out_channels=codec.channels
        )
        temporal_identity(unet)
        return cls(unet, codec, **changes)

    @classmethod
    def from_pretrained(cls, source: str) -> EmuBackbone:
        """Not there yet."""
        raise UsageError("Loading weights into emu is not implemented yet.")

    def condition(self, images: Tensor, text: Sequence[str | None] | None = None) -> Conditioning:
        """The first frame's latent and, as there is no text encoder yet, one token of zeros."""
        check_text(self, text)
        count = len(images)
        tokens = images.new_zeros(count, 1, self.denoiser.config.cross_attention_dim)
        return Conditioning(
            image=self.codec.encode(images[:, None])[:, 0], text=tokens, image_kept=images.new_ones(count)
        )

    def dropped(self, conditioning: Conditioning, image: Tensor, text: Tensor) -> Conditioning:
        """A dropped picture is zeros with the mask zero."""
        keep = (~image).to(conditioning.image)
        assert conditioning.text is not None and conditioning.image_kept is not None
        return Conditioning(
            image=conditioning.image * keep[:, None, None, None],
            text=conditioning.text * (~text).to(conditioning.text)[:, None, None],
            image_kept=conditioning.image_kept * keep,
        )

    def forward(self, inputs: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Concatenate, denoise."""
        first = torch.zeros_like(inputs)
        first[:, 0] = conditioning.image
        mask = torch.zeros_like(inputs[:, :, :1])
        assert conditioning.image_kept is not None
        mask[:, 0] = conditioning.image_kept[:, None, None, None]
        sample = torch.cat([inputs, first, mask], 2).transpose(1, 2)
        raw = self.denoiser(sample, timesteps, conditioning.text, return_dict=False)[0]
        return raw.transpose(1, 2)


def temporal_identity(unet: nn.Module) -> None:
    """Zero the last layer of every temporal branch, so that the U-Net treats each frame as its image model does."""
    for module in unet.modules():
        if isinstance(module, TransformerTemporalModel):
            last: nn.Module = module.proj_out
        elif isinstance(module, TemporalConvLayer):
            last = module.conv4[-1]
        else:
            continue
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
