"""How fast a run is, and how long it will take."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class Throughput(Callback):
    """Samples per second over all processes, and the time left of the whole run, in the progress bar and the logs.

    ``samples_per_second`` is that of the last steps, without validation. ``minutes_left`` goes by everything that
    this process has done since its first step, validation and saving included; what a resumed run did before does not
    count. Where a run has no end there is no ``minutes_left``. (Lightning's `ThroughputMonitor` knows neither the
    time left nor the progress bar.)

    Args:
        window: Steps over which the speed is averaged.
    """

    def __init__(self, window: int = 50) -> None:
        if window < 1:
            raise ValueError(f"Argument `window` must be at least 1, but got {window}.")
        self._steps: deque[tuple[float, int]] = deque(maxlen=window + 1)
        """(seconds of training, samples) at the end of each step, from the start of this process."""
        self._start: tuple[float, int] | None = None
        """When the first step had ended, and how many optimiser steps the run had then."""
        self._paused, self._paused_since = 0.0, 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier fit of the same trainer."""
        self._steps.clear()
        self._start, self._paused = None, 0.0

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Training pauses."""
        self._paused_since = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Training goes on."""
        self._paused += time.perf_counter() - self._paused_since

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log. The first step of a process, which starts workers and compiles, only starts the clock."""
        now = time.perf_counter()
        samples = len(batch["sample"]) * trainer.world_size
        self._steps.append((now - self._paused, samples + (self._steps[-1][1] if self._steps else 0)))
        if self._start is None:
            self._start = now, trainer.global_step
            return
        (earlier, before), (later, after) = self._steps[0], self._steps[-1]
        pl_module.log("samples_per_second", (after - before) / max(later - earlier, 1e-9), prog_bar=True)
        done, total = trainer.global_step - self._start[1], trainer.estimated_stepping_batches
        if done and total != float("inf"):
            left = (now - self._start[0]) / done * (total - trainer.global_step)
            pl_module.log("minutes_left", left / 60, prog_bar=True)
