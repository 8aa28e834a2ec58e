"""DINOv2 of transformers as the released checkpoints use it (imported when one is built, for its seconds of import)."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn
from transformers.models.dinov2.modeling_dinov2 import Dinov2Embeddings

from vfusion3d.models.config import ReconstructorConfig
from vfusion3d.models.encoder import ImageFeatures, per_channel


class DinoEncoder(nn.Module):
    """DINOv2: final-LayerNorm output of CLS and patches, registers dropped (``[B, 1 + n^2, D]``)."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: ReconstructorConfig) -> None:
        super().__init__()
        sizes: dict[str, Any] = {
            "hidden_size": config.encoder_dim,
            "num_hidden_layers": config.encoder_layers,
            "num_attention_heads": config.encoder_heads,
            "patch_size": config.patch_size,
            "image_size": config.encoder_positions * config.patch_size,
        }
        self.registers = 4 if config.encoder == "dinov2_registers" else 0
        self.model: transformers.PreTrainedModel
        if self.registers:
            settings = transformers.Dinov2WithRegistersConfig(num_register_tokens=self.registers, **sizes)
            self.model = transformers.Dinov2WithRegistersModel(settings)
        else:
            self.model = transformers.Dinov2Model(transformers.Dinov2Config(**sizes))
            self.model.embeddings.__class__ = OffsetPositions
        self._recompute = False
        # Never used without masking; DDP fails on parameters that get no gradient.
        self.model.get_parameter("embeddings.mask_token").requires_grad_(False)
        self.register_buffer("mean", per_channel(config.image_mean), persistent=False)
        self.register_buffer("std", per_channel(config.image_std), persistent=False)

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer's layers, all alike."""
        return cast(nn.ModuleList, self.model.get_submodule("encoder.layer"))

    @property
    def gradient_checkpointing(self) -> bool:
        """Whether training recomputes the layers in the backward pass."""
        return self._recompute

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, enabled: bool) -> None:
        if enabled == self._recompute:
            return
        self._recompute = enabled
        # transformers 5 calls it activation checkpointing
        name = "activation" if hasattr(self.model, "activation_checkpointing_enable") else "gradient"
        if enabled:
            getattr(self.model, f"{name}_checkpointing_enable")({"use_reentrant": False})
        else:
            getattr(self.model, f"{name}_checkpointing_disable")()

    def forward(self, images: Tensor) -> ImageFeatures:
        """Tokens ``[B, 1 + n^2, encoder_dim]`` of pictures ``[B, 3, S, S]`` in [0, 1] (more channels are ignored)."""
        pixels = ((images[:, :3] - self.mean) / self.std).to(self.model.dtype)
        tokens = self.model(pixels).last_hidden_state
        return ImageFeatures(torch.cat([tokens[:, :1], tokens[:, 1 + self.registers :]], dim=1), None)


class OffsetPositions(Dinov2Embeddings):
    """Position embeddings resampled as DINOv2 was released, and as transformers did up to 4.42.

    The scale that maps new positions to old ones is ``(n + 0.1) / N`` rather than ``n / N``; later versions of
    transformers dropped the 0.1, which shifts the released VFusion3D's features by some per cent. The registers'
    variant was published without it, with antialiasing, as transformers has it.
    """

    def interpolate_pos_encoding(self, embeddings: Tensor, height: int, width: int) -> Tensor:
        """Positions ``[1, 1 + n m, D]`` for a picture of ``height`` x ``width`` pixels."""
        positions = self.position_embeddings
        rows, columns = (side // patch for side, patch in zip((height, width), self._patch_sizes(), strict=True))
        return resample_positions(positions, rows, columns)

    def _patch_sizes(self) -> tuple[int, int]:
        size = self.patch_embeddings.patch_size
        return (size, size) if isinstance(size, int) else (size[0], size[1])


def resample_positions(positions: Tensor, rows: int, columns: int, offset: float = 0.1) -> Tensor:
    """Learned positions of CLS and an N x N grid, ``[1, 1 + N^2, D]``, for a grid of rows x columns (bicubic)."""
    side = round((positions.shape[1] - 1) ** 0.5)
    if (rows, columns) == (side, side):
        return positions
    grid = positions[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2).float()
    scale = ((rows + offset) / side, (columns + offset) / side)
    grid = F.interpolate(grid, scale_factor=scale, mode="bicubic", align_corners=False, recompute_scale_factor=False)
    return torch.cat([positions[:, :1], grid.flatten(2).transpose(1, 2).to(positions.dtype)], dim=1)
