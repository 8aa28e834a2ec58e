"""SIGTERM: a checkpoint after the step at hand, and a clean end."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.environments import SLURMEnvironment

from vfusion3d.errors import TrainingTerminated


class SaveOnSigterm(Callback):
    """Ends training on SIGTERM after the optimiser step or the validation at hand, with a checkpoint, in all processes.

    Lightning's own handler talks to the other processes from within the signal, wherever they are: they wait for each
    other for ever, and it saves nothing. Here a signal only leaves a note, and the processes agree on it between steps.
    On SLURM the signal that asks for a requeue waits for the end of a step in the same way; what Lightning does then,
    saving and requeueing, stays as it is.

    The checkpoint is ``last.ckpt`` in the folder of the first `ModelCheckpoint`. In a list of callbacks it comes after
    those whose state changes at the end of a batch, such as weight averaging.

    Raises:
        TrainingTerminated: in training, naming the checkpoint.
    """

    def __init__(self) -> None:
        self.received: set[int] = set()
        """Signals that arrived and have not been answered yet."""
        self._requeue: Any = None

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals over from Lightning, which has just taken them."""
        self._take_over(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """As before; without a sanity check this comes first."""
        self._take_over(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Answer, if this was the last batch of a step.

        Raises:
            TrainingTerminated: if a process received SIGTERM.
        """
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or batch_idx + 1 == trainer.num_training_batches:
            self._answer(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Answer.

        Raises:
            TrainingTerminated: if a process received SIGTERM.
        """
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._answer(trainer)

    def _take_over(self, trainer: Trainer) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # signals are for the main thread
        signal.signal(signal.SIGTERM, self._note)
        environment = getattr(trainer.strategy, "cluster_environment", None)
        if not isinstance(environment, SLURMEnvironment) or not environment.auto_requeue:
            return
        requeue = environment.requeue_signal
        if requeue is not None and signal.getsignal(requeue) != self._note:
            self._requeue = requeue, signal.signal(requeue, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received.add(number)

    def _answer(self, trainer: Trainer) -> None:
        if self._requeue is not None:
            number, handler = self._requeue
            if trainer.strategy.reduce_boolean_decision(number in self.received, all=False):
                self.received.discard(number)
                handler(number, None)
        if not trainer.strategy.reduce_boolean_decision(signal.SIGTERM in self.received, all=False):
            return
        self.received.clear()
        kept = "checkpoints are switched off, so nothing was kept"
        folders = [c.dirpath for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.dirpath]
        if folders and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            path = Path(folders[0]) / "last.ckpt"
            trainer.save_checkpoint(path)
            kept = f"continue with --ckpt_path {os.path.relpath(path)}"
        raise TrainingTerminated(
            f"Training was told to end (SIGTERM) and did, after step {trainer.global_step}; {kept}."
        )
