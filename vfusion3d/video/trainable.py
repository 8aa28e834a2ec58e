"""What of a video diffusion model is trained (temporal layers, the denoiser or low-rank updates), and its weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor, nn

from vfusion3d.errors import CheckpointError, UsageError
from vfusion3d.video.backbone import VideoBackbone

Trained = Literal["temporal", "all", "lora"]
_ADAPTER = "default"


@dataclass(frozen=True)
class TrainableReport:
    """What `choose_trainable` chose; as text, one line for the log.

    Args:
        backbone: Its name.
        train: ``temporal``, ``all`` or ``lora``.
        tensors: How many parameter tensors are trained.
        all_tensors: How many the denoiser has.
        parameters: How many numbers those that are trained hold.
        all_parameters: How many the denoiser holds.
        frozen: Parts of the backbone (``denoiser``, ``codec``, ...) and how many of their parameters stay as they are.
    """

    backbone: str
    train: Trained
    tensors: int
    all_tensors: int
    parameters: int
    all_parameters: int
    frozen: Mapping[str, int]

    def __str__(self) -> str:
        frozen = ", ".join(f"{part} {count:,}" for part, count in self.frozen.items())
        return (
            f"{self.backbone} trains {self.train!r}: {self.parameters:,} of the denoiser's {self.all_parameters:,} "
            f"parameters ({self.parameters / self.all_parameters:.1%}), {self.tensors} of {self.all_tensors} tensors; "
            f"frozen parameters: {frozen or 'none'}."
        )


def choose_trainable(backbone: VideoBackbone, train: Trained, rank: int = 64) -> TrainableReport:
    """Set what of a backbone is trained (``requires_grad``); everything else is frozen.

    What the released weights lack (`VideoBackbone.fresh`, for example more input channels) is trained in every case.

    Args:
        backbone: Changed in place; ``lora`` adds layers to its denoiser, which start without effect, or keeps its own.
        train: ``temporal``: the temporal layers alone, as the paper; ``all``: the whole denoiser; ``lora``: low-rank
            updates (arXiv 2106.09685) of the modules that `VideoBackbone.lora` names, by peft.
        rank: Of the low-rank updates, which are scaled by 1.

    Raises:
        UsageError: if nothing was matched, or an argument is wrong.
    """
    if train not in get_args(Trained):
        raise UsageError(f"Argument `train` must be one of {', '.join(get_args(Trained))}, but got {train!r}.")
    backbone.requires_grad_(False)
    if train == "temporal":
        for parameter in backbone.temporal_parameters().values():
            parameter.requires_grad_(True)
    elif train == "all":
        backbone.denoiser.requires_grad_(True)
    else:
        _add_low_rank(backbone, rank)
    for name, parameter in backbone.denoiser.named_parameters():
        if name in backbone.fresh:
            parameter.requires_grad_(True)
    return _report(backbone, train)


def trainable_state(backbone: VideoBackbone) -> dict[str, Tensor]:
    """The weights that are trained, by name; they share memory with the model.

    The names are those of the backbone's parameters; those of low-rank updates are written as peft writes them.
    """
    return {name: parameter.detach() for name, parameter in _trained(backbone).items()}


def load_trainable_state(backbone: VideoBackbone, state: Mapping[str, Tensor]) -> None:
    """Set the weights that are trained; `choose_trainable` must have chosen what was trained when they were saved.

    Args:
        backbone: Changed in place, or not at all if the weights do not fit.
        state: As `trainable_state` gives it.

    Raises:
        CheckpointError: if weights are missing, unexpected or of other shapes.
    """
    wanted = _trained(backbone)
    problems = {
        "are missing": [name for name in wanted if name not in state],
        "are not trained here": [name for name in state if name not in wanted],
        "have other shapes": [name for name in wanted if name in state and state[name].shape != wanted[name].shape],
    }
    for problem, names in problems.items():
        if names:
            raise CheckpointError(
                f"The trained weights do not fit this {backbone.name} model: {len(names)} of them {problem}, "
                f"the first is {names[0]}; load them into the backbone, preset and kind of training they came from."
            )
    for name, parameter in wanted.items():
        parameter.data.copy_(state[name])


def saved_name(name: str) -> str:
    """A parameter's name as `trainable_state` writes it."""
    return name.replace(f".{_ADAPTER}.", ".")


def _trained(backbone: VideoBackbone) -> dict[str, nn.Parameter]:
    return {saved_name(name): parameter for name, parameter in backbone.named_parameters() if parameter.requires_grad}


def _add_low_rank(backbone: VideoBackbone, rank: int) -> None:
    from peft import LoraConfig, inject_adapter_in_model
    from peft.tuners.tuners_utils import BaseTunerLayer

    names = [name for name, _ in backbone.denoiser.named_modules()]
    if backbone.lora is None or not any(re.fullmatch(backbone.lora, name) for name in names):
        raise UsageError(
            f"No module of {backbone.name} was matched for low-rank updates (pattern {backbone.lora!r}); train "
            "`temporal` or `all`."
        )
    if rank < 1:
        raise UsageError(f"Argument `rank` must be at least 1, but got {rank}.")
    ranks = {module.r[_ADAPTER] for module in backbone.denoiser.modules() if isinstance(module, BaseTunerLayer)}
    if ranks - {rank}:
        raise UsageError(
            f"Argument `rank` is {rank}, but this {backbone.name} model has low-rank updates of rank {ranks.pop()} "
            "already: set it to that."
        )
    if not ranks:
        config = LoraConfig(r=rank, lora_alpha=rank, target_modules=backbone.lora)
        inject_adapter_in_model(config, backbone.denoiser, adapter_name=_ADAPTER)
    for name, parameter in backbone.denoiser.named_parameters():
        parameter.requires_grad_(".lora_" in name)
    for parameter in _trained(backbone).values():  # peft makes them as coarse as the weights that they update
        parameter.data = parameter.data.float()


def _report(backbone: VideoBackbone, train: Trained) -> TrainableReport:
    everything = list(backbone.denoiser.parameters())
    trained = [parameter for parameter in everything if parameter.requires_grad]
    frozen = {
        part: sum(parameter.numel() for parameter in module.parameters() if not parameter.requires_grad)
        for part, module in backbone.named_children()
    }
    return TrainableReport(
        backbone=backbone.name,
        train=train,
        tensors=len(trained),
        all_tensors=len(everything),
        parameters=sum(parameter.numel() for parameter in trained),
        all_parameters=sum(parameter.numel() for parameter in everything),
        frozen={part: count for part, count in frozen.items() if count},
    )
