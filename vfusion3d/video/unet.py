"""What the U-Net backbones share."""

from __future__ import annotations

from typing import Any

from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder

from vfusion3d.errors import CheckpointError
from vfusion3d.video.codecs import CosineCodec, KLCodec, LatentCodec, PixelCodec, TemporalKLCodec

# The last projections too: where they are zero (`temporal_identity`), updates of the others alone would do nothing.
TEMPORAL_ATTENTION = r"(.+\.temp_attentions\.\d+|transformer_in)\.(.+\.attn[12]\.(to_q|to_k|to_v|to_out\.0)|proj_out)"
"""Modules for low-rank updates in U-Nets built of ModelScope's blocks, matched whole."""
_RELEASED_CODEC: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "layers_per_block": 2,
}


def coarsest(unet: Any) -> int:
    """Latents a side that one cell of a U-Net's coarsest grid stands for."""
    return 2 ** (len(unet.config.block_out_channels) - 1)  # type: ignore[no-any-return]


def check_fit(name: str, unet: Any, codec: LatentCodec, inputs: int, **encoders: int) -> None:
    """Refuse a U-Net that does not read and return a codec's latents, or attends to tokens of another width.

    Args:
        name: The backbone's.
        unet: A U-Net of diffusers.
        codec: Pictures to latents.
        inputs: How many channels it should read.
        encoders: Widths of what it attends to.

    Raises:
        CheckpointError: in one sentence.
    """
    got = (unet.config.in_channels, unet.config.out_channels)
    if got != (inputs, codec.channels):
        raise CheckpointError(
            f"The U-Net of {name} needs {inputs} input and {codec.channels} output channels for latents of "
            f"{codec.channels}, but has {got[0]} and {got[1]}; give a model made for it."
        )
    for encoder, width in encoders.items():
        if width != unet.config.cross_attention_dim:
            raise CheckpointError(
                f"The U-Net of {name} attends to vectors of {unet.config.cross_attention_dim} numbers, but the "
                f"{encoder} makes {width}; give components of one model."
            )


def preset_codec(preset: str, kind: type[AutoencoderKL] | type[AutoencoderKLTemporalDecoder]) -> LatentCodec:
    """A preset's codec: `released_codec`, a `CosineCodec` for ``nano``, pixels for ``tiny``."""
    if preset == "released":
        return released_codec(kind)
    return CosineCodec() if preset == "nano" else PixelCodec()


def released_codec(kind: type[AutoencoderKL] | type[AutoencoderKLTemporalDecoder]) -> KLCodec:
    """Stable Diffusion's autoencoder at full size, of random weights."""
    if kind is AutoencoderKLTemporalDecoder:
        return TemporalKLCodec(kind(**_RELEASED_CODEC))
    return KLCodec(kind(**_RELEASED_CODEC, up_block_types=("UpDecoderBlock2D",) * 4))
