"""Steps that would poison the weights are skipped, and too many of them end the run."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from vfusion3d.callbacks.progress import how_to_go_on
from vfusion3d.errors import TrainingError


class SkipNonFinite(Callback):
    """Skips optimiser steps whose loss or gradients are NaN or infinite, on all processes alike.

    Parameters and the optimiser's moments stay as they are, so the weights never become NaN. A step is a whole one:
    with accumulated gradients one bad batch costs the step it belongs to. The schedules go on, since they count
    samples. Under 16-bit mixed precision a skipped step also halves the loss scale, as always.

    Args:
        limit: Steps in a row that may be skipped; one more ends the training.

    Raises:
        ValueError: naming the argument.
        TrainingError: in training, past the limit; it names the last good checkpoint.

    Logged as ``skipped_steps``: how many were skipped so far.
    """

    def __init__(self, limit: int = 10) -> None:
        if limit < 0:
            raise ValueError(f"Argument `limit` must not be negative, but got {limit}.")
        self.limit = limit
        self.skipped = 0
        """Steps skipped in the whole run."""
        self.in_a_row = 0
        """Those since the last one that was taken."""
        self._losses: list[Tensor] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing is left of a step that an error cut short."""
        self._losses = []

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Keep the loss of each batch that the step is made of; it is looked at when the step is taken."""
        self._losses.append(loss.detach())

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Take the gradients away if something is not finite; then no optimiser changes anything.

        Raises:
            TrainingError: past the limit.
        """
        losses, self._losses = self._losses, []
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        finite = torch.stack([_norm(p.grad) for p in parameters] + [loss.float() for loss in losses]).isfinite().all()
        if trainer.strategy.reduce_boolean_decision(bool(finite)):
            self.in_a_row = 0
            return
        for parameter in parameters:
            parameter.grad = None
        self.skipped, self.in_a_row = self.skipped + 1, self.in_a_row + 1
        step = trainer.global_step + 1
        if self.in_a_row > self.limit:
            raise TrainingError(
                f"Training ended at step {step}: the loss or the gradients of {self.in_a_row} steps in a row were not "
                f"finite; {how_to_go_on(trainer)}; lower the learning rate, or train with --trainer.precision 32-true."
            )
        rank_zero_warn(
            f"The loss or the gradients of step {step} were not finite: skipped "
            f"({self.in_a_row} in a row, {self.skipped} in all)."
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the count."""
        pl_module.log("skipped_steps", float(self.skipped))

    def state_dict(self) -> dict[str, int]:
        """The counts."""
        return {"skipped": self.skipped, "in_a_row": self.in_a_row}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Count on."""
        self.skipped, self.in_a_row = state_dict["skipped"], state_dict["in_a_row"]


def _norm(gradient: Tensor | None) -> Tensor:
    """The norm of this process' part of a gradient, finite unless the gradient is not."""
    assert gradient is not None
    local = gradient.to_local() if hasattr(gradient, "to_local") else gradient  # type: ignore[operator]
    return local.norm().float()
