"""Which kernels compute a denoiser's attention."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Literal, get_args

import torch
from diffusers.models.attention_dispatch import attention_backend
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0

from vfusion3d.errors import MissingExtraError, UsageError
from vfusion3d.video.backbone import VideoBackbone

AttentionKind = Literal["auto", "sdpa", "math", "xformers", "flash"]
_OF_TRANSFORMERS = {"sdpa": "native", "math": "_native_math", "xformers": "xformers", "flash": "flash"}
_PACKAGES = {
    "xformers": ("xformers", "pip install 'vfusion3d[xformers]'"),
    "flash": ("flash_attn", "pip install flash-attn --no-build-isolation"),
}


def set_attention(backbone: VideoBackbone, kind: AttentionKind = "auto") -> None:
    """Choose the kernels of a denoiser's attention, of this model alone; results are the same but for rounding.

    U-Nets and transformers do this by different mechanisms of diffusers, each of which is silent on the other kind.

    Args:
        backbone: Changed in place.
        kind: ``auto``: as diffusers made it; ``sdpa``: PyTorch's fused kernels; ``math``: plain matrix products;
            ``xformers``; ``flash``: the flash-attn package (transformers only).

    Raises:
        UsageError: if the model or the machine has no such kernels.
        MissingExtraError: if their package is not installed.
    """
    if kind not in get_args(AttentionKind):
        raise UsageError(f"Argument `attention` must be one of {', '.join(get_args(AttentionKind))}, but got {kind!r}.")
    if kind == "auto":
        return
    denoiser: Any = backbone.denoiser
    processors = getattr(denoiser, "attn_processors", {}).values()
    if not processors:
        raise UsageError(f"The attention of {backbone.name} cannot be chosen; leave `attention` at auto.")
    dispatched = any(hasattr(processor, "_attention_backend") for processor in processors)
    if kind == "flash" and not dispatched:
        raise UsageError(
            f"The U-Net of {backbone.name} cannot use the flash-attn package; choose `sdpa`, which uses PyTorch's own "
            "flash kernel where it fits."
        )
    if kind in _PACKAGES:
        _check_package(kind)
    if dispatched:
        # set_attention_backend changes the default of the whole process too; the context puts that back.
        with attention_backend(_OF_TRANSFORMERS[kind]):
            denoiser.set_attention_backend(_OF_TRANSFORMERS[kind])
    elif kind == "xformers":
        denoiser.enable_xformers_memory_efficient_attention()
    else:
        denoiser.set_attn_processor(AttnProcessor2_0() if kind == "sdpa" else AttnProcessor())


def _check_package(kind: str) -> None:
    package, command = _PACKAGES[kind]
    if not torch.cuda.is_available():
        raise UsageError(f"The attention kernels `{kind}` need a CUDA device and there is none; choose `sdpa`.")
    if find_spec(package) is None:
        raise MissingExtraError(f"The attention kernels `{kind}` need the package {package}: {command}.")
