"""Optimiser settings and parameter groups (paper supplement: AdamW, decay only on weights of layers)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn


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
