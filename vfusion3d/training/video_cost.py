"""What a training step of a video model costs, before there is one: counted on the meta device, as `cost` does.

Activations are those that autograd keeps of the denoiser; what is trained decides which. Operations are counted
forward; backward there are as many again for the activations, and those of the weights' gradients by the share that is
trained.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from vfusion3d.errors import UsageError
from vfusion3d.training.cost import MixedPrecision, StepCost, kept_by
from vfusion3d.video import VideoBackbone, create_backbone
from vfusion3d.video.checkpointing import enable_checkpointing
from vfusion3d.video.registry import backbone_class
from vfusion3d.video.trainable import Trained, choose_trainable

_RELEASED = "released"
_ENCODERS = {"svd": 0.63e9, "emu": 0.34e9, "i2vgen": 0.98e9, "wan": 6.3e9}
"""Weights of the encoders that come with released models (CLIP's ViT-H/14, Wan's umT5-XXL), which presets lack."""
_LAYERS = re.compile(r"(^|\.)(resnets|temp_convs|attentions|temp_attentions|blocks)\.\d+$")
"""What is recomputed as one where layers are."""


@dataclass(frozen=True)
class VideoModel:
    """What decides the cost of a video model's step."""

    backbone: str
    """Its name."""
    source: str
    """As `VideoFineTuner`'s."""
    train: Trained = "temporal"
    """What is trained."""
    rank: int = 64
    """Of low-rank updates."""
    options: tuple[tuple[str, Any], ...] = ()
    """Of the backbone."""

    @property
    def preset(self) -> str:
        """The architecture: a preset, or the released one's if the source is weights.

        Raises:
            UsageError: if it cannot be known.
        """
        presets = backbone_class(self.backbone).presets
        if self.source in presets:
            return self.source
        if self.backbone == "wan" and "5b" in self.source.lower():
            return f"{_RELEASED}_5b"
        if _RELEASED not in presets:
            raise UsageError(
                f"What the backbone {self.backbone} costs cannot be estimated: its architecture is known from weights "
                f"only, since it has no preset {_RELEASED!r} but {', '.join(presets) or 'none'}."
            )
        return _RELEASED

    @property
    def name(self) -> str:
        """In words."""
        return f"{self.backbone} ({self.source}), trains {self.train}"


@lru_cache
def video_step_cost(model: VideoModel, resolution: int, checkpointing: bool, half: bool) -> StepCost:
    """Estimate a training step.

    Args:
        model: Of which architecture, and what is trained.
        resolution: Height and width of the frames in pixels.
        checkpointing: Whether the denoiser's layers are recomputed in the backward pass.
        half: Whether products are taken in bfloat16 or float16.

    Raises:
        UsageError: if the architecture cannot be known, or nothing would be trained.
    """
    with torch.device("meta"):
        backbone = create_backbone(model.backbone, model.preset, **dict(model.options))
        backbone.to("meta")  # what is real elsewhere
        report = choose_trainable(backbone, model.train, model.rank)
        if checkpointing:
            largest = _largest_layer(backbone, resolution, half)
            enable_checkpointing(backbone)
        else:
            largest = 0
        one, two = (kept_by(partial(_denoise, backbone, count, resolution), backbone, half) for count in (1, 2))
        frames = backbone.frames or 16
        encoding = _operations(lambda: backbone.codec.encode(torch.empty(1, 1, 3, resolution, resolution)))
    share = report.parameters / report.all_parameters
    flops = one.flops * (2 + share + checkpointing) + encoding * (frames + 1)
    trained = {id(parameter) for parameter in backbone.parameters() if parameter.requires_grad}
    frozen = sum(p.numel() * p.element_size() for p in backbone.parameters() if id(p) not in trained)
    if model.preset.startswith(_RELEASED):
        digits = 2 if dict(model.options).get("half") else 4
        frozen += int(_ENCODERS.get(model.backbone, 0)) * digits
    return StepCost(
        parameters=report.parameters,
        fixed_bytes=max(0, 2 * one.bytes - two.bytes),
        sample_bytes=two.bytes - one.bytes,
        peak_bytes=largest,
        sample_flops=flops,
        frozen_bytes=frozen,
    )


def _denoise(backbone: VideoBackbone, count: int, resolution: int) -> Tensor:
    """Denoise so many videos of nothing."""
    frames, side = backbone.frames or 16, resolution // backbone.codec.factor
    with torch.no_grad():
        conditioning = backbone.condition(torch.empty(count, 3, resolution, resolution))
    inputs = torch.empty(count, frames, backbone.codec.channels, side, side)
    raw: Tensor = backbone(inputs, torch.empty(count), conditioning)
    return raw


def _operations(call: Any) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad(), MixedPrecision(False):
        call()
    return float(counter.get_total_flops())


def _largest_layer(backbone: VideoBackbone, resolution: int, half: bool) -> int:
    """Bytes that autograd keeps of one video in the layer that keeps most."""
    seen: dict[int, Any] = {}
    largest = 0

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        seen[storage._cdata] = storage
        return tensor

    def before(module: nn.Module, arguments: Any) -> None:
        seen.clear()

    def after(module: nn.Module, arguments: Any, answer: Any) -> None:
        nonlocal largest
        largest = max(largest, sum(storage.nbytes() for storage in seen.values()))

    saving, watching = saved_tensors_hooks(pack, lambda tensor: tensor), _hooks(backbone.denoiser, before, after)
    with watching, saving, MixedPrecision(half), torch.enable_grad():
        _denoise(backbone, 1, resolution)
    return largest


@contextmanager
def _hooks(denoiser: nn.Module, before: Any, after: Any) -> Iterator[None]:
    handles = []
    for name, module in denoiser.named_modules():
        if _LAYERS.search(name):
            handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
