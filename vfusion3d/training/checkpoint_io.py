"""Training checkpoints: written whole, read safely."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins import TorchCheckpointIO

from vfusion3d.errors import CheckpointError
from vfusion3d.outputs import atomic_file, output_errors

ABANDONED = 3600.0
"""Seconds after which half a checkpoint that nobody writes to is taken for a killed process' leavings."""


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it there, so that the last good one is never at stake.

    Lightning's own collects the file in the temporary folder and copies it from there, over what was there before.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint; an address (``s3://...``) is left to Lightning.

        Raises:
            OutputError: if it cannot be written; an earlier file of that name is still there then.
        """
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        path = Path(path)
        with output_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(path.parent)
        with atomic_file(path) as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                if isinstance(error.__context__, OSError):  # what the disk said before torch failed to end its archive
                    raise error.__context__ from None
                raise


def _remove_abandoned(folder: Path) -> None:
    """Remove what a process killed while it wrote a checkpoint has left: it is large, and nobody else will."""
    for partial in folder.glob(".*.ckpt.*.partial"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - partial.stat().st_mtime > ABANDONED:
                partial.unlink()


def read_checkpoint(path: str) -> dict[str, Any]:
    """A training checkpoint, its tensors still on the disk; nothing that is in it is run.

    Raises:
        CheckpointError: if there is none.
    """
    if not os.path.isfile(path):
        raise CheckpointError(f"The checkpoint {path} does not exist or may not be read; check the path.")
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        complete = {"state_dict", "pytorch-lightning_version"} <= checkpoint.keys()
    except Exception:  # torch raises many types on damaged files
        complete = False
    if not complete:
        raise CheckpointError(
            f"The checkpoint {path} is truncated or was not written by a training run; give a .ckpt file of a run."
        )
    return checkpoint
