"""Pictures of a video model's progress."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from vfusion3d.callbacks.pictures import save_picture
from vfusion3d.callbacks.progress import output_folder
from vfusion3d.rendering.turntable import contact_sheet


class OrbitSheets(Callback):
    """Draws the orbits that the module samples: a row of true frames, and the generated ones below.

    ``orbits_<step>.png`` after each validation with samples, ``test_orbits.png`` and ``predicted_orbits.png`` after
    `vfusion3d test` and `vfusion3d predict`; loggers that can show pictures get them too. The module's validation, test
    and predict steps return videos of the first orbits of a batch, or None.

    Args:
        dirpath: Folder of the PNGs; the logger's folder by default.
        objects: Objects shown; with several processes, of those that the first one samples.
    """

    def __init__(self, dirpath: str | None = None, objects: int = 8) -> None:
        if objects < 1:
            raise ValueError(f"Argument `objects` must be at least 1, but got {objects}.")
        self.dirpath, self.objects = dirpath, objects
        self._rows: list[Tensor] = []

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Keep the first objects."""
        self._collect(trainer, batch, outputs)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the sheet."""
        self._write(trainer, f"orbits_{trainer.global_step:07d}", "val/orbits")

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Keep the first objects."""
        self._collect(trainer, batch, outputs)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the sheet."""
        self._write(trainer, "test_orbits", "test/orbits")

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Keep the first objects."""
        self._collect(trainer, batch, outputs)

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the sheet."""
        self._write(trainer, "predicted_orbits", "predict/orbits")

    def _collect(self, trainer: Trainer, batch: Any, video: Tensor | None) -> None:
        if video is None or not trainer.is_global_zero or trainer.sanity_checking:
            return
        for index in range(min(self.objects - len(self._rows) // 2, len(video))):
            self._rows += [_pixels(batch["frames"][index]), _pixels(video[index])]

    def _write(self, trainer: Trainer, name: str, key: str) -> None:
        rows, self._rows = self._rows, []
        folder = output_folder(trainer, self.dirpath)
        if rows:
            frames = [frame for row in rows for frame in row.numpy()]
            save_picture(trainer, folder, name, contact_sheet(frames, columns=len(rows[0]), gap=2), key)


def _pixels(video: Tensor) -> Tensor:
    """uint8 ``[F, H, W, 3]`` of ``[F, 3, H, W]`` in [0, 1]."""
    return video.float().clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu()
