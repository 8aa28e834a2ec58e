"""Video diffusion models as orbit generators (paper, section 3.2): backbones behind one protocol, and sampling."""

from __future__ import annotations

import importlib
from typing import Any

_PUBLIC = {
    "VideoBackbone": "backbone",
    "Conditioning": "backbone",
    "EmuBackbone": "emu",
    "I2VGenBackbone": "i2vgen",
    "SvdBackbone": "svd",
    "WanBackbone": "wan",
    "LatentCodec": "codecs",
    "PixelCodec": "codecs",
    "CosineCodec": "codecs",
    "KLCodec": "codecs",
    "TemporalKLCodec": "codecs",
    "TextEncoder": "encoders",
    "ClipText": "encoders",
    "ByteText": "encoders",
    "ImageEncoder": "encoders",
    "ClipImage": "encoders",
    "PooledImage": "encoders",
    "DiffusionProcess": "diffusion",
    "VariancePreserving": "diffusion",
    "FlowMatching": "diffusion",
    "ElucidatedDiffusion": "diffusion",
    "OrbitGenerator": "generator",
    "Guidance": "guidance",
    "VideoModelConfig": "trained",
    "load_video_model": "trained",
    "read_video_config": "trained",
    "sample_latents": "sampling",
    "save_video_model": "trained",
    "create_backbone": "registry",
    "backbone_names": "registry",
    "TrainableReport": "trainable",
    "choose_trainable": "trainable",
    "trainable_state": "trainable",
    "load_trainable_state": "trainable",
    "enable_checkpointing": "checkpointing",
    "set_attention": "attention",
    "pluecker_rays": "rays",
    "add_ray_channels": "rays",
    "epipolar_mask": "epipolar",
    "add_joint_attention": "epipolar",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"vfusion3d.video.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'vfusion3d.video' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
