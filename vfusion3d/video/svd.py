"""Stable Video Diffusion (arXiv 2311.15127), image to video; told each frame's camera if wanted (SV3D, 2403.12008)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from diffusers.models.embeddings import TimestepEmbedding, get_timestep_embedding
from torch import Tensor, nn
from transformers import CLIPVisionModelWithProjection

from vfusion3d.video.backbone import NO_LICENCE, Conditioning, VideoBackbone, check_text, told_cameras
from vfusion3d.video.codecs import LatentCodec, TemporalKLCodec
from vfusion3d.video.diffusion import ElucidatedDiffusion
from vfusion3d.video.encoders import ClipImage, ImageEncoder, PooledImage
from vfusion3d.video.loading import announce_licence, find_model, load_component
from vfusion3d.video.unet import check_fit, coarsest, preset_codec

_TINY = {
    "sample_size": 8,
    "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
    "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
    "block_out_channels": (32, 64),
    "addition_time_embed_dim": 32,
    "projection_class_embeddings_input_dim": 96,
    "layers_per_block": 1,
    "cross_attention_dim": 32,
    "num_attention_heads": (2, 4),
}
CAMERAS = "camera_embedding"
"""What the denoiser calls the part that reads cameras."""


class SvdBackbone(VideoBackbone):
    """A spatio-temporal U-Net that reads noisy latents beside the first frame's, which is repeated on every frame and
    not scaled, and attends to the picture's CLIP embedding; there is no text.

    Args:
        unet: With ``2 C`` input and ``C`` output channels, C the codec's.
        codec: Pictures to latents.
        image_encoder: Pictures to one vector as wide as the U-Net's cross attention.
        frames: Frames of its videos.
        fps: Frames per second that it is told.
        motion_bucket: How much motion it is told; orbits have the same everywhere.
        camera_per_frame: Whether it is told each frame's elevation and turn as well (`PerFrameCamera`).

    Raises:
        CheckpointError: if they do not fit together.
    """

    name = "svd"
    temporal = r"(temporal_res_block|temporal_transformer_blocks|time_pos_embed|time_mixer)"
    lora = r".+\.temporal_transformer_blocks\.\d+\.attn[12]\.(to_q|to_k|to_v|to_out\.0)"
    licence = (
        "Stable Video Diffusion's weights are under the Stability AI Community License, by which what they generate "
        "counts as derivative works."
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {"tiny": _TINY, "nano": _TINY, "released": {}}

    def __init__(
        self,
        unet: UNetSpatioTemporalConditionModel,
        codec: LatentCodec,
        image_encoder: ImageEncoder,
        *,
        frames: int = 16,
        fps: int = 7,
        motion_bucket: int = 127,
        camera_per_frame: bool = False,
    ) -> None:
        super().__init__()
        check_fit(self.name, unet, codec, 2 * codec.channels, image_encoder=image_encoder.width)
        self.denoiser, self.codec, self.image_encoder = unet, codec, image_encoder
        self.frames, self.fps, self.motion_bucket = frames, fps, motion_bucket
        self.process = ElucidatedDiffusion()
        self.reads_cameras = camera_per_frame
        if camera_per_frame:
            add_cameras(unet)
            self.fresh = frozenset(n for n, _ in unet.named_parameters() if n.startswith(f"{CAMERAS}."))

    @classmethod
    def from_preset(cls, preset: str, **changes: Any) -> SvdBackbone:
        """Random weights and no CLIP; ``nano`` predicts clean latents of a `CosineCodec`, ``tiny`` has pixels for
        latents."""
        cls.check_options(changes)
        settings = cls.preset_of(preset)
        codec = preset_codec(preset, AutoencoderKLTemporalDecoder)
        channels = {"in_channels": 2 * codec.channels, "out_channels": codec.channels}
        unet: Any = UNetSpatioTemporalConditionModel(**settings, **channels)
        model = cls(unet, codec, PooledImage(unet.config.cross_attention_dim), **changes)
        model.licence = NO_LICENCE
        if preset == "nano":
            model.process = ElucidatedDiffusion(largest=20.0, prediction_type="sample")
        return model.eval()

    @classmethod
    def from_pretrained(cls, source: str, **changes: Any) -> SvdBackbone:
        """``stabilityai/stable-video-diffusion-img2vid``, its ``-xt``, or what has their layout."""
        cls.check_options(changes)
        folder = find_model(source, ("unet", "vae", "image_encoder"))
        model = cls(
            load_component(folder, "unet", UNetSpatioTemporalConditionModel),
            TemporalKLCodec(load_component(folder, "vae", AutoencoderKLTemporalDecoder)),
            ClipImage(load_component(folder, "image_encoder", CLIPVisionModelWithProjection), "blurred_bicubic"),
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
        """The first frame's latent, its CLIP embedding as one token, and how noisy the former is."""
        check_text(self, text)
        noisy = self.noisy(images, noise, noise_level)
        return Conditioning(
            image=self.codec.encode(noisy[:, None])[:, 0] / self.codec.scale,
            embedding=self.image_encoder(images)[:, None],
            noise_level=images.new_zeros(len(images)) if noise_level is None else noise_level,
        )

    def dropped(self, conditioning: Conditioning, image: Tensor, text: Tensor) -> Conditioning:
        """A dropped picture is zeros, as latent and as embedding."""
        assert conditioning.embedding is not None
        return dataclasses.replace(
            conditioning,
            image=conditioning.image.masked_fill(image[:, None, None, None], 0),
            embedding=conditioning.embedding.masked_fill(image[:, None, None], 0),
        )

    def forward(self, inputs: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Concatenate, denoise."""
        dtype = self.denoiser.dtype
        first = conditioning.image[:, None].expand(-1, inputs.shape[1], -1, -1, -1)
        assert conditioning.noise_level is not None and conditioning.embedding is not None
        told = conditioning.noise_level.new_tensor([self.fps - 1, self.motion_bucket]).expand(len(inputs), 2)
        if hasattr(self.denoiser, CAMERAS):
            self._tell_cameras(inputs, conditioning)
        return self.denoiser(  # type: ignore[no-any-return]
            torch.cat([inputs.to(dtype), first.to(dtype)], 2),
            timesteps,
            conditioning.embedding.to(dtype),
            torch.cat([told, conditioning.noise_level[:, None]], 1),
            return_dict=False,
        )[0]

    def _tell_cameras(self, inputs: Tensor, conditioning: Conditioning) -> None:
        cameras = told_cameras(self, inputs, conditioning)
        turn = (cameras.azimuths - cameras.azimuths[:, :1]) % (2 * math.pi)  # from the picture's, as in SV3D
        getattr(self.denoiser, CAMERAS).angles = torch.stack([cameras.elevations, turn], -1)


class PerFrameCamera(nn.Module):
    """Every frame's elevation and turn since the first frame, as sinusoids through a small network, added to the time
    embedding (SV3D).

    Its last layer starts as zeros, so that the U-Net starts as it was.

    Args:
        width: Sinusoids of each angle; even.
        embedding: Length of the time embedding.
    """

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.width = width
        self.network = TimestepEmbedding(2 * width, embedding)
        nn.init.zeros_(self.network.linear_2.weight)
        nn.init.zeros_(self.network.linear_2.bias)
        self.angles: Tensor | None = None
        """Of the frames that are about to be denoised, ``[B, F, 2]`` in radians."""

    def forward(self, angles: Tensor) -> Tensor:
        """``[B * F, embedding]`` from ``[B, F, 2]``."""
        sinusoids = get_timestep_embedding(angles.flatten(), self.width, flip_sin_to_cos=True, downscale_freq_shift=0)
        dtype = self.network.linear_1.weight.dtype
        return self.network(sinusoids.view(-1, 2 * self.width).to(dtype))  # type: ignore[no-any-return]

    def add(self, block: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
        """Forward hook of the U-Net's blocks, which are handed the time embedding of every frame."""
        assert self.angles is not None
        return arguments, {**named, "temb": named["temb"] + self(self.angles)}


def add_cameras(unet: Any) -> None:
    """Let a U-Net read cameras: diffusers embeds the time once for all frames, but its blocks take one for each."""
    cameras = PerFrameCamera(unet.config.addition_time_embed_dim, unet.time_embedding.linear_2.out_features)
    unet.add_module(CAMERAS, cameras)
    for block in (*unet.down_blocks, unet.mid_block, *unet.up_blocks):
        block.register_forward_pre_hook(cameras.add, with_kwargs=True)
