"""Pictures that are drawn of validation, test and prediction alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image

from vfusion3d.callbacks.pictures import save_picture
from vfusion3d.callbacks.progress import output_folder


class Sheets(Callback, ABC):
    """Collects rows of the first objects and writes them as one picture; the first process alone does.

    ``<logged>_<step>.png`` after each validation, ``test_<shown>.png`` and ``predicted_<shown>.png`` after `vfusion3d
    test` and `vfusion3d predict`; loggers that can show pictures get them too.

    Args:
        dirpath: Folder of the PNGs; the logger's folder by default.
        objects: Objects shown; with several processes, of those that the first one has.
    """

    LOGGED: ClassVar[str]
    """What loggers call the pictures."""
    SHOWN: ClassVar[str]
    """What is on them, for the files' names."""

    def __init__(self, dirpath: str | None = None, objects: int = 8) -> None:
        if objects < 1:
            raise ValueError(f"Argument `objects` must be at least 1, but got {objects}.")
        self.dirpath, self.objects = dirpath, objects
        self._rows: list[np.ndarray] = []

    @abstractmethod
    def rows_of(self, batch: Any, outputs: Any, count: int) -> list[np.ndarray]:
        """What is shown of at most ``count`` objects of a batch, given what the module's step returned."""

    @abstractmethod
    def sheet(self, rows: list[np.ndarray]) -> Image.Image:
        """All rows, at least one, as a picture."""

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Keep the first objects."""
        self._collect(trainer, batch, outputs)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the sheet."""
        self._write(trainer, f"{self.LOGGED}_{trainer.global_step:07d}", "val")

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Keep the first objects."""
        self._collect(trainer, batch, outputs)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the sheet."""
        self._write(trainer, f"test_{self.SHOWN}", "test")

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Keep the first objects."""
        self._collect(trainer, batch, outputs)

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the sheet."""
        self._write(trainer, f"predicted_{self.SHOWN}", "predict")

    def _collect(self, trainer: Trainer, batch: Any, outputs: Any) -> None:
        room = self.objects - len(self._rows)
        if room and trainer.is_global_zero and not trainer.sanity_checking:
            self._rows += self.rows_of(batch, outputs, room)

    def _write(self, trainer: Trainer, name: str, stage: str) -> None:
        rows, self._rows = self._rows, []
        folder = output_folder(trainer, self.dirpath)
        if rows:
            save_picture(trainer, folder, name, self.sheet(rows), f"{stage}/{self.LOGGED}")
