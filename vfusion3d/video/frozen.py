"""Modules that are never trained."""

from __future__ import annotations

from torch import nn
from typing_extensions import Self


class Frozen(nn.Module):
    """A module that stays as it is: no gradients, always in evaluation mode."""

    def freeze(self) -> None:
        """Switch off gradients and dropout; at the end of ``__init__``."""
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Never into training mode."""
        return super().train(False)
