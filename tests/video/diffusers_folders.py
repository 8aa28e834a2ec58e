"""Tiny models in diffusers' layout, as `save_pretrained` writes them, with random weights."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLTemporalDecoder,
    I2VGenXLUNet,
    UNet2DConditionModel,
    UNet3DConditionModel,
    UNetSpatioTemporalConditionModel,
)
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from vfusion3d.video.emu import _TINY as EMU
from vfusion3d.video.i2vgen import _TINY as I2VGEN
from vfusion3d.video.svd import _TINY as SVD

CLIP = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "projection_dim": 32,
}
IMAGE_UNET = {
    "sample_size": 8,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "block_out_channels": (16, 32),
    "norm_num_groups": 8,
    "layers_per_block": 1,
    "cross_attention_dim": 32,
    "attention_head_dim": [2, 4],  # numbers of heads of 8, as Stable Diffusion 2.1 has 5, 10, 20, 20 of 64
    "use_linear_projection": True,
}


def stirred(module: nn.Module) -> nn.Module:
    """No weight is zero any more, so that every part shows."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return module


def image_vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
    )


def video_vae() -> AutoencoderKLTemporalDecoder:
    return AutoencoderKLTemporalDecoder(block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2)


def text_encoder() -> CLIPTextModel:
    return CLIPTextModel(CLIPTextConfig(vocab_size=54, max_position_embeddings=12, **CLIP))


def vision_encoder() -> CLIPVisionModelWithProjection:
    return CLIPVisionModelWithProjection(CLIPVisionConfig(image_size=32, patch_size=16, **CLIP))


def write_tokenizer(folder: Path) -> None:
    """Letters, at a word's end or not; no merges."""
    folder.mkdir(parents=True)
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")


def write_model(folder: Path, kind: str) -> Path:
    """A model of ``kind``: svd, i2vgen, emu, image (Stable Diffusion 2.1) or modelscope."""
    torch.manual_seed(0)
    unet = {
        "svd": lambda: UNetSpatioTemporalConditionModel(**SVD, in_channels=8, out_channels=4),
        "i2vgen": lambda: I2VGenXLUNet(**I2VGEN),
        "emu": lambda: UNet3DConditionModel(**EMU, in_channels=9, out_channels=4),
        "image": lambda: UNet2DConditionModel(**IMAGE_UNET),
        "modelscope": lambda: UNet3DConditionModel(**EMU, in_channels=4, out_channels=4),
    }[kind]()
    stirred(unet).save_pretrained(folder / "unet")
    (video_vae() if kind == "svd" else image_vae()).save_pretrained(folder / "vae")
    if kind in ("svd", "i2vgen"):
        vision_encoder().save_pretrained(folder / "image_encoder")
    if kind != "svd":
        text_encoder().save_pretrained(folder / "text_encoder")
        write_tokenizer(folder / "tokenizer")
    return folder
