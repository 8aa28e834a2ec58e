"""Emu Video's recipe on open U-Nets: picture and text to video with nine input channels (arXiv 2311.10709)."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel, UNet3DConditionModel
from torch import Tensor
from transformers import CLIPTextModel

from vfusion3d.video.backbone import NO_LICENCE, Conditioning, VideoBackbone, captions
from vfusion3d.video.codecs import KLCodec, LatentCodec
from vfusion3d.video.diffusion import VariancePreserving
from vfusion3d.video.encoders import ByteText, ClipText, TextEncoder
from vfusion3d.video.inflation import temporal_identity, unet_from_image, with_input_channels
from vfusion3d.video.loading import announce_licence, class_of, find_model, load_component, load_tokenizer, read_json
from vfusion3d.video.unet import TEMPORAL_ATTENTION, check_fit, coarsest, preset_codec

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
_NANO = {**_TINY, "block_out_channels": (32, 64)}
_IMAGE_LICENCE = (
    "Weights started from Stable Diffusion are under CreativeML Open RAIL(++)-M, which passes its use restrictions on "
    "to what they generate."
)
_MODELSCOPE_LICENCE = (
    "ModelScope's text-to-video weights are under CC BY-NC 4.0, so what they generate is for non-commercial use only."
)
_LOGGER = logging.getLogger("vfusion3d")


class EmuBackbone(VideoBackbone):
    """A 3D U-Net that reads noisy latents, the first frame's latent (zero on later frames) and a mask of that frame,
    and attends to text.

    Emu Video's own weights are closed; this starts as an image model repeated over the frames (`temporal_identity`).

    Args:
        unet: With ``2 C + 1`` input channels and ``C`` output channels, C the codec's.
        codec: Pictures to latents.
        text_encoder: Captions to tokens as wide as the U-Net's cross attention.
        frames: Frames of its videos.

    Raises:
        CheckpointError: if they do not fit together.
    """

    name = "emu"
    temporal = r"(temp_convs|temp_attentions|transformer_in)\."
    lora = TEMPORAL_ATTENTION
    licence = _IMAGE_LICENCE
    presets: ClassVar[dict[str, dict[str, Any]]] = {"tiny": _TINY, "nano": _NANO, "released": {}}
    reads_text = True

    def __init__(
        self, unet: UNet3DConditionModel, codec: LatentCodec, text_encoder: TextEncoder, *, frames: int = 16
    ) -> None:
        super().__init__()
        check_fit(self.name, unet, codec, 2 * codec.channels + 1, text_encoder=text_encoder.width)
        self.denoiser, self.codec, self.text_encoder, self.frames = unet, codec, text_encoder, frames
        self.process = VariancePreserving()

    @classmethod
    def from_preset(cls, preset: str, **changes: Any) -> EmuBackbone:
        """Random weights, whose temporal layers start as the identity, and text as bytes; ``nano`` predicts clean
        latents of a `CosineCodec`, ``tiny`` has pixels for latents."""
        cls.check_options(changes)
        settings = cls.preset_of(preset)
        codec = preset_codec(preset, AutoencoderKL)
        unet: Any = UNet3DConditionModel(**settings, in_channels=2 * codec.channels + 1, out_channels=codec.channels)
        temporal_identity(unet)
        model = cls(unet, codec, ByteText(unet.config.cross_attention_dim), **changes)
        if preset == "nano":
            model.process = VariancePreserving(prediction_type="sample")
        model.licence = NO_LICENCE
        return model.eval()

    @classmethod
    def from_pretrained(cls, source: str, **changes: Any) -> EmuBackbone:
        """An emu model; or an image model in the layout of Stable Diffusion 2.1, whose temporal layers start as the
        identity; or a text-to-video model in that of ``ali-vilab/text-to-video-ms-1.7b``, whose own are kept. The last
        two have fewer input channels: weights of the others start as zeros, and ``conv_in`` is trained (`fresh`).
        """
        cls.check_options(changes)
        folder = find_model(source, ("unet", "vae", "text_encoder", "tokenizer"))
        codec = KLCodec(load_component(folder, "vae", AutoencoderKL))
        text_encoder = ClipText(load_component(folder, "text_encoder", CLIPTextModel), load_tokenizer(folder))
        unet: Any
        from_image = class_of(folder, "unet") == UNet2DConditionModel.__name__
        if from_image:
            unet = unet_from_image(load_component(folder, "unet", UNet2DConditionModel), codec.channels)
        else:
            unet = load_component(folder, "unet", UNet3DConditionModel)
        grown = unet.config.in_channels == codec.channels
        if grown:
            unet = with_input_channels(unet, 2 * codec.channels + 1)
            _warn_of_other_target(folder)
        model = cls(unet, codec, text_encoder, **changes)
        if grown:
            model.fresh = frozenset({"conv_in.weight", "conv_in.bias"})
        model.licence = _IMAGE_LICENCE if from_image or not grown else _MODELSCOPE_LICENCE
        announce_licence(source, model.licence)
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
        """The first frame's latent and the text's tokens."""
        noisy = self.noisy(images, noise, noise_level)
        return Conditioning(
            image=self.codec.encode(noisy[:, None])[:, 0],
            text=self.text_encoder(captions(text, len(images))),
            image_kept=images.new_ones(len(images)),
        )

    def dropped(self, conditioning: Conditioning, image: Tensor, text: Tensor) -> Conditioning:
        """A dropped picture is zeros with the mask zero, a dropped text the empty one."""
        assert conditioning.image_kept is not None
        return dataclasses.replace(
            conditioning,
            image=conditioning.image.masked_fill(image[:, None, None, None], 0),
            image_kept=conditioning.image_kept.masked_fill(image, 0),
            text=self.text_encoder.drop(conditioning.text, text),
        )

    def forward(self, inputs: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Concatenate, denoise."""
        assert conditioning.image_kept is not None and conditioning.text is not None
        inputs = inputs.to(self.denoiser.dtype)
        first, mask = torch.zeros_like(inputs), torch.zeros_like(inputs[:, :, :1])
        first[:, 0] = conditioning.image.to(inputs)
        mask[:, 0] = conditioning.image_kept[:, None, None, None].to(inputs)
        sample = torch.cat([inputs, first, mask], 2).transpose(1, 2)
        raw = self.denoiser(sample, timesteps, conditioning.text.to(inputs), return_dict=False)[0]
        return raw.transpose(1, 2)  # type: ignore[no-any-return]


def _warn_of_other_target(folder: Path) -> None:
    """Say if weights were trained to predict something else than emu's process."""
    path = folder / "scheduler" / "scheduler_config.json"
    predicted = read_json(path).get("prediction_type", "epsilon") if path.is_file() else "v_prediction"
    if predicted != "v_prediction":
        _LOGGER.warning(
            "%s was trained to predict %s, and is trained on with v-prediction: its first steps undo that; weights "
            "with v-prediction, as Stable Diffusion 2.1 at 768 pixels, start better.",
            folder,
            predicted,
        )
