"""What the data modules that read pictures from disk have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.utils.data import DataLoader

from vfusion3d.data.batches import MultiViewBatch
from vfusion3d.data.loading import EpochSampler, FixedEpochSampler, ResumableLoader
from vfusion3d.data.module import MultiViewDataModule
from vfusion3d.data.views_dataset import Items, LoadedViews, ViewsDataset, delivered, licence_texts
from vfusion3d.errors import UsageError


class ViewsDataModule(MultiViewDataModule):
    """Random views of items from one or more locations; what the items are, subclasses say.

    Args:
        root: A location, or a mapping from locations to their shares of the samples, in any unit.
        batch_size: Items per step and process.
        samples_per_epoch: Samples per epoch over all processes. A null is one pass over the items or, in a
            `MixedDataModule`, as many as the longest sibling needs. An item's views differ in each pass.
        val_fraction: Share of each location's items set aside for validation.
        seed: Decides order, views and augmentation.
        num_workers: Worker processes that read pictures.
        views, resolution, p_first, mirror, hue, cache_gib, points, view_pool: As `ViewsDataset`.

    Raises:
        UsageError: if a number is out of range.
    """

    def __init__(
        self,
        root: str | Mapping[str, float],
        batch_size: int,
        samples_per_epoch: int | None,
        val_fraction: float,
        seed: int,
        num_workers: int,
        *,
        views: int,
        resolution: int,
        p_first: float,
        mirror: bool,
        hue: float,
        cache_gib: float,
        points: int = 0,
        view_pool: int | None = None,
    ) -> None:
        super().__init__(batch_size, samples_per_epoch)
        if not 0 <= val_fraction < 1:
            raise UsageError(f"Argument `val_fraction` must be in [0, 1), but got {val_fraction}.")
        if not 0 <= p_first <= 1:
            raise UsageError(f"Argument `p_first` must be in [0, 1], but got {p_first}.")
        if view_pool is not None and view_pool < views:
            raise UsageError(f"Argument `view_pool` must be at least `views` ({views}), but got {view_pool}.")
        locations = {str(root): 1.0} if not isinstance(root, Mapping) else {str(k): float(v) for k, v in root.items()}
        if not locations or not all(0 < weight < float("inf") for weight in locations.values()):
            raise UsageError(f"Argument `root` must map locations to positive shares, but got {dict(locations)}.")
        self.locations = locations
        self.weights = list(locations.values()) if isinstance(root, Mapping) else None
        self.resolution, self.val_fraction, self.seed, self.num_workers = resolution, val_fraction, seed, num_workers
        self._reading: dict[str, Any] = {"views": views, "resolution": resolution, "seed": seed, "p_first": p_first}
        self._reading |= {"cache_gib": cache_gib, "view_pool": view_pool}
        self._augmentation: dict[str, Any] = {"mirror": mirror, "hue": hue, "points": points}
        self._split: tuple[list[Items], list[Items]] | None = None
        self._train: ViewsDataset | None = None

    def split_location(self, location: str) -> tuple[Items, Items]:
        """The items of a location for training and for validation; subclasses have it."""
        raise NotImplementedError

    def split(self) -> tuple[list[Items], list[Items]]:
        """The items for training and for validation, by location.

        Raises:
            VFusion3DError: if a location cannot be read, or has nothing left to train on.
        """
        if self._split is None:
            parts = [self.split_location(location) for location in self.locations]
            self._split = [train for train, _ in parts], [validation for _, validation in parts]
        return self._split

    def samples_per_pass(self) -> int:
        """One sample per training item."""
        return sum(len(items) for items in self.split()[0])

    @property
    def licences(self) -> list[str]:
        """What the training items say of their licences."""
        return licence_texts(self.split()[0])

    def setup(self, stage: str) -> None:
        """Read tables and cameras; pictures are read on demand."""
        if self._train is None:
            self._train = ViewsDataset(self.split()[0], **self._reading, **self._augmentation)

    def train_dataloader(self) -> DataLoader[Any]:
        """Random views in a random order; every item of a location comes once before one comes again."""
        assert self._train is not None, "setup() comes first"
        counts = [len(items) for items in self._train.sources]
        sampler = EpochSampler(self.samples_per_epoch, counts, self.step_batch_size, self.seed, True, self.weights)
        return ResumableLoader(self._train, sampler, self.batch_size, self.num_workers)

    def val_dataloader(self) -> Any:
        """One fixed choice of views of each validation item, without augmentation."""
        sources = [items for items in self.split()[1] if len(items)]
        if not sources:
            return []
        sampler = FixedEpochSampler([len(items) for items in sources])
        return DataLoader(ViewsDataset(sources, **self._reading), batch_size=self.batch_size, sampler=sampler)

    def on_after_batch_transfer(self, batch: LoadedViews, dataloader_idx: int) -> MultiViewBatch:
        """Make pictures of the resolution on the batch's device."""
        return delivered(batch, self.resolution)
