"""Several data modules as one."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import CombinedLoader
from lightning.pytorch.utilities.model_helpers import is_overridden

from vfusion3d.data.batches import MultiViewBatch
from vfusion3d.data.module import MultiViewDataModule
from vfusion3d.data.resize import area_resize
from vfusion3d.errors import UsageError


class MixedDataModule(MultiViewDataModule):
    """Every training batch is a batch of each of the modules, one after another.

    An epoch lasts as long as the longest of them; a shorter one starts again, with the same samples, unless its
    number of samples is null, which stretches it. Validation, testing and prediction use the first module that
    has the loader.

    Args:
        modules: Data modules whose batches are `MultiViewBatch` with the same number of views.

    Raises:
        UsageError: if there are no modules.
    """

    def __init__(self, modules: list[MultiViewDataModule]) -> None:
        if not modules:
            raise UsageError("Argument `modules` must name at least one data module.")
        super().__init__(sum(module.batch_size for module in modules), None)
        self.modules = modules
        self._evaluating: dict[str, MultiViewDataModule] = {}

    def samples_per_pass(self) -> int:
        """Those of the longest module's epoch and of its siblings meanwhile."""
        return self._steps() * self.batch_size

    @property
    def licences(self) -> list[str] | None:
        """Those of all modules; None if one does not tell."""
        parts = [module.licences for module in self.modules]
        return None if None in parts else sorted({text for part in parts for text in part or ()})

    def _steps(self) -> int:
        """Steps per epoch on one process: those of the longest module that knows its length."""
        fixed = [module for module in self.modules if module.requested_samples is not None] or self.modules
        return max(module.samples_per_epoch // module.batch_size for module in fixed)

    def prepare_data(self) -> None:
        """Prepare every module."""
        for module in self.modules:
            module.prepare_data()

    def setup(self, stage: str) -> None:
        """Set up every module."""
        for module in self.modules:
            module.trainer = self.trainer
            module.setup(stage)

    def teardown(self, stage: str) -> None:
        """Tear down every module."""
        for module in self.modules:
            module.teardown(stage)

    def train_dataloader(self) -> CombinedLoader:
        """A loader of lists with one batch per module."""
        steps = self._steps()
        for module in self.modules:
            if module.requested_samples is None:
                module.requested_samples = steps * module.batch_size
        return CombinedLoader([module.train_dataloader() for module in self.modules], "max_size_cycle")

    def _evaluation_loader(self, kind: str) -> Any:
        for module in self.modules:
            if is_overridden(f"{kind}_dataloader", module, LightningDataModule):
                loader = getattr(module, f"{kind}_dataloader")()
                if loader:
                    self._evaluating[kind] = module
                    return loader
        return []

    def val_dataloader(self) -> Any:
        """The first module's that has one."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> Any:
        """The first module's that has one."""
        return self._evaluation_loader("test")

    def predict_dataloader(self) -> Any:
        """The first module's that has one."""
        return self._evaluation_loader("predict")

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Each module's own, on its part of the batch."""
        return self._delegate("on_before_batch_transfer", batch, dataloader_idx)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> MultiViewBatch:
        """Each module's own, then one batch: pictures at the largest resolution, sample indices kept apart."""
        batches = self._delegate("on_after_batch_transfer", batch, dataloader_idx)
        return _concatenate(batches) if isinstance(batch, list) else batches

    def _delegate(self, hook: str, batch: Any, dataloader_idx: int) -> Any:
        if isinstance(batch, list):  # training: one part per module
            return [getattr(m, hook)(part, dataloader_idx) for m, part in zip(self.modules, batch, strict=True)]
        trainer = self.trainer
        kind = "test" if trainer and trainer.testing else "predict" if trainer and trainer.predicting else "val"
        return getattr(self._evaluating[kind], hook)(batch, dataloader_idx)


def _concatenate(batches: list[MultiViewBatch]) -> MultiViewBatch:
    """One batch of several; sample s of module k of n becomes s n + k, so no two share their randomness."""
    height = max(batch["images"].shape[-2] for batch in batches)
    width = max(batch["images"].shape[-1] for batch in batches)
    joined: MultiViewBatch = {
        "images": torch.cat([area_resize(batch["images"], height, width) for batch in batches]),
        "poses": torch.cat([batch["poses"] for batch in batches]),
        "intrinsics": torch.cat([batch["intrinsics"] for batch in batches]),
        "sample": torch.cat([batch["sample"] * len(batches) + k for k, batch in enumerate(batches)]),
        "epoch": torch.cat([batch["epoch"] for batch in batches]),
    }
    counts = {batch["points"].shape[1] if "points" in batch else 0 for batch in batches}
    if len(counts) > 1:
        raise UsageError(f"All modules of a mixture must label as many `points`, but got {sorted(counts)}.")
    if counts != {0}:
        joined["points"] = torch.cat([batch["points"] for batch in batches])
        joined["inside"] = torch.cat([batch["inside"] for batch in batches])
    return joined
