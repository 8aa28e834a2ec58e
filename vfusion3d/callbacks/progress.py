"""How far a run is, in samples and epochs, which every schedule is a function of; and where its files go."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import LightningModule, Trainer

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


def output_folder(trainer: Trainer, given: str | None, *parts: str) -> Path:
    """The given folder, or a part of the logger's. Every process must ask: the logger's folder is broadcast."""
    log_dir = trainer.log_dir
    return Path(given) if given else Path(log_dir or trainer.default_root_dir, *parts)
