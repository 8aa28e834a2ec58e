"""Checkpoints hold whole optimiser steps, and fit any number of processes with the same samples per step."""

from __future__ import annotations

import copy
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from vfusion3d.errors import UsageError
from vfusion3d.training.lineage import LICENCES

_LAYOUT = "steps"  # key of a checkpoint
_BATCHES, _EPOCHS = "epoch_loop.batch_progress", "epoch_progress"


class StepBoundary:
    """The progress of a run after its last whole optimiser step.

    Gradients that are being accumulated are in no checkpoint, nor is what an error cut short. So a checkpoint written
    meanwhile holds the progress as it was before: the weights have not changed since, and a resumed run sees those
    batches again.
    """

    def __init__(self) -> None:
        self._after: tuple[int, dict[str, Any]] | None = None

    def reached(self, trainer: Trainer, samples_seen: int) -> None:
        """Remember the progress; to be called before training, and after every batch."""
        if self._after is None or not _within_a_step(trainer):
            self._after = samples_seen, copy.deepcopy(trainer.fit_loop.state_dict())

    def save(self, trainer: Trainer, checkpoint: dict[str, Any]) -> None:
        """Put a checkpoint's progress, with its ``samples_seen``, at the end of a step, and say how long steps are."""
        if self._after is not None and _within_a_step(trainer):
            checkpoint["samples_seen"], progress = self._after
            checkpoint["loops"]["fit_loop"] = copy.deepcopy(progress)
        checkpoint[_LAYOUT] = _layout(trainer)

    def load(self, trainer: Trainer, checkpoint: dict[str, Any]) -> None:
        """Count a checkpoint's batches as this trainer would have, on its number of processes.

        Raises:
            UsageError: if a step would have another number of samples.
        """
        loops = checkpoint["loops"]["fit_loop"]
        then, now = checkpoint.get(_LAYOUT), _layout(trainer)
        if then is not None and then != now:
            if then["samples"] != now["samples"]:
                raise UsageError(
                    f"The checkpoint was trained with {then['samples']} samples per step, and now `batch_size` x "
                    f"processes x --trainer.accumulate_grad_batches makes {now['samples']}: choose them so that it is "
                    f"{then['samples']} again."
                )
            _rescale(loops[_BATCHES], then["batches"], now["batches"])
        finish_epoch(loops)
        self._after = int(checkpoint["samples_seen"]), copy.deepcopy(loops)


class ResumableModule(LightningModule):
    """A module that counts its samples and knows their licences, and whose checkpoints are of whole optimiser steps."""

    def __init__(self) -> None:
        super().__init__()
        self.samples_seen = 0
        """Training samples seen by all processes; every schedule is a function of it."""
        self.licences: list[str] | None = None
        """What the data that it was trained on say of their licences; None if they do not tell."""
        self._boundary = StepBoundary()

    def on_train_start(self) -> None:
        """Note where the run starts, and what it is trained on."""
        now = getattr(getattr(self.trainer, "datamodule", None), "licences", None)
        # Data that do not tell leave all unknown, also what was known of the data before a resume.
        known = self.licences if self.samples_seen else []
        self.licences = None if None in (now, known) else list(dict.fromkeys([*(known or ()), *(now or ())]))
        self._boundary.reached(self.trainer, self.samples_seen)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Note where a step ends."""
        self._boundary.reached(self.trainer, self.samples_seen)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the progress that the schedules depend on, as of the last whole step."""
        checkpoint["samples_seen"] = self.samples_seen
        checkpoint[LICENCES] = self.licences
        self._boundary.save(self.trainer, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore it, for this number of processes.

        Raises:
            UsageError: if a step would have another number of samples.
        """
        self.samples_seen = int(checkpoint["samples_seen"])
        self.licences = checkpoint.get(LICENCES)
        if self._trainer is not None and self._trainer.state.fn == TrainerFn.FITTING:
            self._boundary.load(self._trainer, checkpoint)


def finish_epoch(progress: dict[str, Any]) -> None:
    """Make a checkpoint's progress that was taken when an epoch's last batch ended that of the epoch's end.

    Lightning resumes from the former with the next epoch too, but never counts that as begun, so that a second resume,
    in the midst of it, would begin it again.
    """
    batches, epochs = progress[_BATCHES], progress[_EPOCHS]
    trained = batches["is_last_batch"] and batches["current"]["processed"] == batches["current"]["ready"]
    if trained and epochs["current"]["processed"] < epochs["current"]["started"]:
        for kind in ("current", "total"):
            batches[kind]["completed"] = batches[kind]["processed"]
            epochs[kind]["processed"] += 1


def _within_a_step(trainer: Trainer) -> bool:
    """Whether a batch is at work, or gradients of earlier ones wait for more; an epoch's last batch ends a step."""
    progress: Any = trainer.fit_loop.epoch_loop.batch_progress
    at_work = progress.current.processed < progress.current.ready
    return at_work or (progress.current.ready % trainer.accumulate_grad_batches != 0 and not progress.is_last_batch)


def _layout(trainer: Trainer) -> dict[str, int]:
    """Batches of a process, and samples of all, per optimiser step (0: the data do not tell)."""
    batches = trainer.accumulate_grad_batches
    samples = int(getattr(getattr(trainer, "datamodule", None), "batch_size", None) or 0)
    return {"batches": batches, "samples": samples * batches * trainer.world_size}


def _rescale(progress: dict[str, Any], then: int, now: int) -> None:
    """Count batches of another size: ``then`` of them made a step, now ``now`` do."""
    for counts in (progress["current"], progress["total"]):
        behind = {name: counts["ready"] - counts[name] for name in counts}  # 1 where a batch's end was not over
        ready = -(-counts["ready"] // then) * now
        counts.update({name: ready - late for name, late in behind.items()})
