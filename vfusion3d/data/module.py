"""What the training data modules have in common."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningDataModule

from vfusion3d.errors import UsageError


class MultiViewDataModule(LightningDataModule):
    """A data module whose training batches are `MultiViewBatch` and whose length is known beforehand.

    Args:
        batch_size: Samples per step and process.
        samples_per_epoch: Samples per epoch over all processes, or None for one pass over the data.

    Raises:
        UsageError: if a number is not positive.
    """

    def __init__(self, batch_size: int, samples_per_epoch: int | None) -> None:
        super().__init__()
        for name, value in (("batch_size", batch_size), ("samples_per_epoch", samples_per_epoch)):
            if value is not None and value < 1:
                raise UsageError(f"Argument `{name}` must be at least 1, but got {value}.")
        self.batch_size = batch_size
        self.requested_samples = samples_per_epoch

    @property
    def step_batch_size(self) -> int:
        """Samples per optimiser step and process; epochs are cut to whole steps."""
        return self.batch_size * (self.trainer.accumulate_grad_batches if self.trainer is not None else 1)

    def samples_per_pass(self) -> int:
        """Samples of one pass over the data; modules without passes need not have it."""
        raise NotImplementedError

    @property
    def samples_per_epoch(self) -> int:
        """Samples per epoch over all processes; what schedules are computed from."""
        return self.samples_per_pass() if self.requested_samples is None else self.requested_samples

    @property
    def licences(self) -> list[str] | None:
        """What the training data say of their licences, one text each; None if they do not tell."""
        return None

    def test_dataloader(self) -> Any:
        """The validation set: `vfusion3d test` scores a checkpoint on it."""
        return self.val_dataloader()

    def predict_dataloader(self) -> Any:
        """The validation set: `vfusion3d predict` renders it."""
        return self.val_dataloader()
