"""The type of a model's weights."""

from __future__ import annotations

import torch
from torch import nn


def cast_weights(model: nn.Module, dtype: torch.dtype) -> None:
    """Change the type of a model's weights in place, but for those that its class keeps in float32.

    Args:
        model: Of diffusers or transformers, not a module around one.
        dtype: The new type.
    """
    kept = set(getattr(model, "_keep_in_fp32_modules", None) or ())
    for name, parameter in model.named_parameters():
        if not kept & set(name.split(".")):
            parameter.data = parameter.data.to(dtype)
