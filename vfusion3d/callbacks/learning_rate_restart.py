"""The learning-rate schedule: cosines that restart, warm-up only before the first."""

from __future__ import annotations

import math
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from vfusion3d.callbacks.progress import samples_before_step, samples_per_epoch, samples_per_step


class LearningRateRestart(Callback):
    """Cosine annealing that restarts at the initial rate (paper: after the first 10 of 30 epochs).

    One owner of the learning rate, a pure function of the samples seen. Adam's moments are kept across a
    restart.

    Args:
        learning_rate: Rate at the start of every cycle (after the warm-up).
        cycles: Length of each cosine in epochs, e.g. ``[10, 20]``; one number means no restart.
        warmup_steps: Linear warm-up steps before the first cosine (paper: 3000).
        warmup_fraction: The warm-up is at most this share of all steps (ours: 5%).
        final: Rate at the end of every cycle.

    Raises:
        ValueError: naming the argument.

    Example:
        >>> schedule = LearningRateRestart(1.0, cycles=[10, 20], warmup_steps=0)
        >>> [round(schedule.rate(epoch, warmup=0.0), 3) for epoch in (0, 5, 9.999, 10, 20, 30)]
        [1.0, 0.5, 0.0, 1.0, 0.5, 0.0]
    """

    def __init__(
        self,
        learning_rate: float,
        cycles: list[float],
        warmup_steps: int = 3000,
        warmup_fraction: float = 0.05,
        final: float = 0.0,
    ) -> None:
        if not learning_rate > 0:
            raise ValueError(f"Argument `learning_rate` must be positive, but got {learning_rate}.")
        if not cycles or any(c <= 0 for c in cycles):
            raise ValueError(f"Argument `cycles` must be a list of positive epochs, but got {cycles}.")
        if warmup_steps < 0 or not 0 <= warmup_fraction < 1:
            raise ValueError(
                "Arguments `warmup_steps` >= 0 and 0 <= `warmup_fraction` < 1 are needed, "
                f"but got {warmup_steps} and {warmup_fraction}."
            )
        self.learning_rate, self.cycles, self.final = learning_rate, list(cycles), final
        self.warmup_steps, self.warmup_fraction = warmup_steps, warmup_fraction

    def rate(self, epoch: float, warmup: float) -> float:
        """Learning rate after a fractional number of epochs, with a warm-up of ``warmup`` epochs."""
        if epoch < warmup:
            return self.learning_rate * epoch / warmup
        start = 0.0
        for index, length in enumerate(self.cycles):
            begin = max(start, warmup) if index == 0 else start
            if epoch < start + length:
                share = (epoch - begin) / (start + length - begin)
                cosine = (1 + math.cos(math.pi * share)) / 2
                return self.final + (self.learning_rate - self.final) * cosine
            start += length
        return self.final

    def warmup_epochs(self, samples_per_step: int, samples_per_epoch: int) -> float:
        """Length of the warm-up in epochs."""
        return min(self.warmup_steps * samples_per_step / samples_per_epoch, self.warmup_fraction * sum(self.cycles))

    def rate_of_step(self, seen: int, samples_per_step: int, samples_per_epoch: int) -> float:
        """Learning rate of the optimiser step that begins after ``seen`` samples; while the rate warms up that of the
        step's last sample, so that the first step already learns."""
        warmup = self.warmup_epochs(samples_per_step, samples_per_epoch)
        warming = seen < warmup * samples_per_epoch
        return self.rate((seen + samples_per_step if warming else seen) / samples_per_epoch, warmup)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Set the rate of this step."""
        seen, step = samples_before_step(trainer, pl_module, batch), samples_per_step(trainer, batch)
        rate = self.rate_of_step(seen, step, samples_per_epoch(trainer))
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        pl_module.log("lr", rate, prog_bar=True)
