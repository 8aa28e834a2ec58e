"""Gradient checkpointing for every backbone, also for the U-Nets in which diffusers refuses it or leaves layers out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from vfusion3d.errors import UsageError
from vfusion3d.video.backbone import VideoBackbone

_LISTS = ("resnets", "temp_convs", "attentions", "temp_attentions")
"""Lists in the blocks of diffusers' video U-Nets whose layers keep nearly all activations."""


def enable_checkpointing(backbone: VideoBackbone) -> None:
    """Keep only the inputs of the denoiser's layers for the backward pass and run them again in it.

    It costs about a third more time and saves most of the activations' memory; gradients stay the same, with dropout
    too. Layers run again only where gradients are recorded, so sampling is as fast as before.

    Raises:
        UsageError: if the denoiser has no layers that this knows.
    """
    denoiser: Any = backbone.denoiser
    # Not diffusers' own for U-Nets: two of them refuse, and Stable Video Diffusion's leaves temporal attention out.
    layers = list(_layers(denoiser))
    if not layers:
        if not getattr(denoiser, "_supports_gradient_checkpointing", False):
            raise UsageError(f"The denoiser of {backbone.name} knows no gradient checkpointing; switch it off.")
        denoiser.enable_gradient_checkpointing()
    for layer in layers:
        if not isinstance(layer.forward, partial):  # enabled before
            layer.forward = partial(_checkpointed, layer.forward)


def _layers(denoiser: nn.Module) -> Iterator[nn.Module]:
    for name, module in denoiser.named_modules():
        if isinstance(module, nn.ModuleList) and name.rpartition(".")[2] in _LISTS:
            yield from module
        elif name == "transformer_in":
            yield module


def _checkpointed(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)
