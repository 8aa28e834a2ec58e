"""Pictures of the training's progress."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image

from vfusion3d.alpha import over_white
from vfusion3d.callbacks.progress import output_folder


class NovelViewSheets(Callback):
    """Writes a PNG of the first objects: one row per object, truth above render, the input first.

    ``novel_views_<step>.png`` after each validation, ``test_views.png`` and ``predicted_views.png`` after
    `vfusion3d test` and `vfusion3d predict`.

    The module's validation and test steps return the renders on white ``[B, V, 3, H, W]``, as its predict step does.

    Args:
        dirpath: Folder of the PNGs; the logger's folder by default.
        objects: Rows.
    """

    def __init__(self, dirpath: str | None = None, objects: int = 8) -> None:
        self.dirpath, self.objects = dirpath, objects
        self._rows: list[torch.Tensor] = []

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Keep the first objects."""
        self._collect(trainer, batch, outputs)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the sheet."""
        self._write(trainer, f"novel_views_{trainer.global_step:07d}.png")

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Keep the first objects."""
        self._collect(trainer, batch, outputs)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the sheet."""
        self._write(trainer, "test_views.png")

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Keep the first objects."""
        self._collect(trainer, batch, outputs)

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the sheet."""
        self._write(trainer, "predicted_views.png")

    def _collect(self, trainer: Trainer, batch: Any, renders: torch.Tensor) -> None:
        room = self.objects - len(self._rows)
        if room <= 0 or not trainer.is_global_zero:
            return
        for truth, render in zip(over_white(batch["images"][:room]), renders[:room], strict=True):
            self._rows.append(torch.cat([torch.cat(list(truth), -1), torch.cat(list(render), -1)], -2).cpu())

    def _write(self, trainer: Trainer, name: str) -> None:
        rows, self._rows = self._rows, []
        folder = output_folder(trainer, self.dirpath)
        if not rows or trainer.sanity_checking:
            return
        sheet = torch.cat(rows, -2).clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sheet).save(folder / name)
