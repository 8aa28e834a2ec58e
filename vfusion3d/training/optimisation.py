"""Optimiser settings and parameter groups (paper supplement: AdamW, decay only on weights of layers)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import nn

from vfusion3d.errors import MissingExtraError

OptimizerKind = Literal["adamw", "muon"]


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW as in the paper: lr 4e-4, weight decay 0.05; the first beta is ours."""

    learning_rate: float = 4e-4
    """Learning rate; `LearningRateRestart` makes it a schedule."""
    beta1: float = 0.9
    """Decay of the first moment (not in the paper)."""
    beta2: float = 0.95
    """Decay of the second moment."""
    weight_decay: float = 0.05
    """On weights that are neither biases nor in normalisation layers."""
    kind: OptimizerKind = "adamw"
    """``adamw`` (paper), or ``muon``: orthogonalised momentum for the transformers' matrices, scaled to AdamW's step
    size, and AdamW for the rest (timm's; pays in short runs from random weights)."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(OptimizerKind):
            raise ValueError(
                f"Optimizer setting `kind` must be one of {get_args(OptimizerKind)}, but got {self.kind!r}."
            )


def build_optimizer(module: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """The optimiser of a model's trainable parameters.

    Raises:
        MissingExtraError: for ``muon`` without timm.
    """
    groups = parameter_groups(module, settings.weight_decay)
    betas = (settings.beta1, settings.beta2)
    if settings.kind == "adamw":
        return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=betas)
    try:
        from timm.optim import Muon
    except ImportError as error:
        raise MissingExtraError("The optimizer `muon` needs timm: pip install 'vfusion3d[muon]'.") from error
    groups = muon_groups(module, groups)
    return Muon(groups, lr=settings.learning_rate, betas=betas)


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: with decay, and without (biases and normalisation layers).

    Example:
        >>> from torch import nn
        >>> groups = parameter_groups(nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3)), 0.05)
        >>> [(len(g["params"]), g["weight_decay"]) for g in groups]
        [(1, 0.05), (3, 0.0)]
    """
    norms = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)
    decay: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for owner in module.modules():
        for name, parameter in owner.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            (plain if isinstance(owner, norms) or name.endswith("bias") else decay).append(parameter)
    return [{"params": decay, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def muon_groups(module: nn.Module, groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`parameter_groups` split for Muon: its matrices first, then everything AdamW keeps.

    Muon is for matrices between hidden layers: those of submodules named ``encoder`` and ``decoder``. Convolutions,
    embeddings, biases, norms, the point MLP and the camera's embedding stay with AdamW.
    """
    hidden = {
        id(parameter)
        for name, parameter in module.named_parameters()
        if parameter.ndim == 2 and name.split(".")[0] in ("encoder", "decoder")
    }
    decay, plain = groups
    matrices = [p for p in decay["params"] if id(p) in hidden]
    others = [p for p in decay["params"] if id(p) not in hidden]
    return [
        {**decay, "params": matrices},
        {**decay, "params": others, "use_fallback": True},
        {**plain, "use_fallback": True},
    ]
