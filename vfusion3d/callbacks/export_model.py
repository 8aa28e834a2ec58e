"""The trained model as a folder that `from_pretrained` and `vfusion3d reconstruct --model` take."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from vfusion3d.callbacks.progress import output_folder
from vfusion3d.models import TriplaneReconstructor


class ExportModel(Callback):
    """Writes ``config.json`` and ``model.safetensors`` when training ends (after weight averaging).

    Args:
        dirpath: The folder; ``model`` in the logger's folder by default.
        half: Store float16.
        name: Name written into the configuration.
        license: Licence written into the configuration.
    """

    def __init__(
        self, dirpath: str | None = None, half: bool = False, name: str | None = None, license: str | None = None
    ) -> None:
        self.dirpath, self.half, self.name, self.license = dirpath, half, name, license

    def on_fit_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Write the model."""
        folder = output_folder(trainer, self.dirpath, "model")
        if not trainer.is_global_zero:
            return
        model: TriplaneReconstructor = pl_module.model
        changes: dict[str, Any] = {k: v for k, v in (("name", self.name), ("license", self.license)) if v is not None}
        model.config = dataclasses.replace(model.config, **changes)
        model.save_pretrained(folder, dtype=torch.float16 if self.half else torch.float32)
