"""How far a run is, in samples and epochs, which every schedule is a function of; and where its files go."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from vfusion3d.errors import UsageError


def samples_per_epoch(trainer: Trainer) -> int:
    """Training samples of one epoch over all processes, as delivered: whole batches.

    Raises:
        UsageError: if neither the data module nor its loader tells.
    """
    loader = getattr(trainer, "datamodule", None) or trainer.train_dataloader
    batch = getattr(loader, "batch_size", None)
    steps = trainer.num_training_batches
    if batch is None or steps == float("inf"):
        raise UsageError(
            "The schedules need the number of samples per epoch: use a data module with a `batch_size` and an end."
        )
    return int(steps) * int(batch) * trainer.world_size


def samples_seen(module: LightningModule) -> int:
    """Training samples seen so far by all processes."""
    seen = getattr(module, "samples_seen", None)
    if not isinstance(seen, int):
        raise UsageError(f"{type(module).__name__} does not count `samples_seen`, which the schedules need.")
    return seen


def samples_per_step(trainer: Trainer, batch: Any) -> int:
    """Training samples of one optimiser step over all processes, given a batch."""
    return len(batch["sample"]) * trainer.world_size * trainer.accumulate_grad_batches


def samples_before_step(trainer: Trainer, module: LightningModule, batch: Any) -> int:
    """Training samples that all processes had seen when the optimiser step of a batch began."""
    step = samples_per_step(trainer, batch)
    return samples_seen(module) // step * step


def output_folder(trainer: Trainer, given: str | None, *parts: str) -> Path:
    """The given folder, or a part of the logger's. Every process must ask: the logger's folder is broadcast."""
    log_dir = trainer.log_dir
    return Path(given) if given else Path(log_dir or trainer.default_root_dir, *parts)


def newest_checkpoint(trainer: Trainer) -> str | None:
    """The checkpoint that a run wrote last and still has."""
    saved = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
    paths = [path for c in saved for path in (c.last_model_path, c.best_model_path, *c.best_k_models)]
    kept = {path: os.path.getmtime(path) for path in paths if path and os.path.exists(path)}
    return max(kept, key=lambda path: kept[path], default=None)


def how_to_go_on(trainer: Trainer) -> str:
    """Half a sentence that names the last good checkpoint."""
    path = newest_checkpoint(trainer)
    if path is None:
        return "no checkpoint had been written yet"
    return f"the last good checkpoint is {path} (--ckpt_path continues from it)"
