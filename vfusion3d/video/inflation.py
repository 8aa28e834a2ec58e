"""Video U-Nets out of image U-Nets: the same on every frame until trained."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DConditionModel, UNet3DConditionModel
from diffusers.models.resnet import TemporalConvLayer
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from torch import Tensor, nn

from vfusion3d.errors import CheckpointError

_BLOCKS = {
    "CrossAttnDownBlock2D": "CrossAttnDownBlock3D",
    "DownBlock2D": "DownBlock3D",
    "CrossAttnUpBlock2D": "CrossAttnUpBlock3D",
    "UpBlock2D": "UpBlock3D",
}
_SAME = (
    "sample_size",
    "in_channels",
    "out_channels",
    "block_out_channels",
    "layers_per_block",
    "downsample_padding",
    "mid_block_scale_factor",
    "act_fn",
    "norm_num_groups",
    "norm_eps",
    "cross_attention_dim",
)


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


def unet_from_image(image: UNet2DConditionModel, channels: int = 4) -> UNet3DConditionModel:
    """A video U-Net that does to every frame what an image U-Net does, with random temporal layers behind a zero.

    Args:
        image: It reads and returns latents.
        channels: Of a latent.

    Raises:
        CheckpointError: if the image U-Net is not built as Stable Diffusion 2.1's.
    """
    found = image.config["in_channels"]
    if found != channels:
        raise _unlike(f"has {found} input channels, for latents of {channels}")
    unet = UNet3DConditionModel(**_video_settings(dict(image.config)))
    temporal_identity(unet)
    _copy(unet, image.state_dict())
    return unet


def with_input_channels(unet: UNet3DConditionModel, channels: int) -> UNet3DConditionModel:
    """The same U-Net with more input channels, of zero weight."""
    with torch.device("meta"):
        wider: Any = UNet3DConditionModel.from_config(unet.config, in_channels=channels)
    state = unet.state_dict()
    weight = state["conv_in.weight"]
    state["conv_in.weight"] = torch.cat([weight, weight.new_zeros(len(weight), channels - weight.shape[1], 3, 3)], 1)
    wider.load_state_dict(state, assign=True)
    return wider  # type: ignore[no-any-return]


def _video_settings(image: dict[str, Any]) -> dict[str, Any]:
    try:
        blocks = {key: tuple(_BLOCKS[kind] for kind in image[key]) for key in ("down_block_types", "up_block_types")}
    except KeyError as error:
        raise _unlike(f"has blocks of the kind {error}") from error
    levels = image["block_out_channels"]
    # diffusers calls the number of heads so in image U-Nets, and in video U-Nets the size of one
    heads = image["num_attention_heads"] or image["attention_head_dim"]
    heads = [heads] * len(levels) if isinstance(heads, int) else heads
    sizes = {width // count for width, count in zip(levels, heads, strict=True)}
    if len(sizes) > 1:
        raise _unlike(f"has attention heads of several sizes ({', '.join(map(str, sorted(sizes)))})")
    return {**{key: image[key] for key in _SAME}, **blocks, "attention_head_dim": sizes.pop()}


def _copy(unet: UNet3DConditionModel, state: dict[str, Tensor]) -> None:
    """Image weights into a video U-Net: all of them, and all but temporal layers.

    Raises:
        CheckpointError: if some do not fit.
    """
    own = unet.state_dict()
    unexpected = [key for key, value in state.items() if key not in own or own[key].shape != value.shape]
    temporal = ("temp_convs.", "temp_attentions.", "transformer_in.")
    missing = [key for key in own if key not in state and not any(part in key for part in temporal)]
    if unexpected or missing:
        raise _unlike(f"has other weights (for example {(unexpected or missing)[0]})")
    unet.load_state_dict(state, strict=False)


def _unlike(what: str) -> CheckpointError:
    return CheckpointError(
        f"The image U-Net {what}, unlike the video U-Nets of diffusers; start from one built as Stable Diffusion 2.1's."
    )
