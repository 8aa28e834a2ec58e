"""What trains in tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer


def quiet_trainer(folder: Path, **options: Any) -> Trainer:
    """One process on the CPU for one epoch, which prints and logs nothing; ``options`` are Lightning's."""
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    usual = {"accelerator": "cpu", "devices": 1, "max_epochs": 1, "default_root_dir": folder}
    return Trainer(**{**usual, **quiet, **options})
