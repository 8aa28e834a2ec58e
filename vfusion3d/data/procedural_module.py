"""Endless procedural training data, drawn on the device."""

from __future__ import annotations

from typing import Any, TypedDict

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vfusion3d.cameras import Cameras, random_sphere
from vfusion3d.data.batches import MultiViewBatch
from vfusion3d.data.loading import EpochSampler, FixedEpochSampler, ResumableLoader
from vfusion3d.data.module import MultiViewDataModule
from vfusion3d.data.procedural import LICENCE, sample_object
from vfusion3d.data.randomness import sample_generator, sample_seed, unit_noise
from vfusion3d.data.raycast import ProceduralObjects, render
from vfusion3d.data.solids import ball_points, inside_objects

_OBJECT_STREAM, _CAMERA_STREAM, _VALIDATION_STREAM, _POINT_STREAM = 1, 2, 3, 8


class _Item(TypedDict):
    """What a loader delivers: a description, not pictures."""

    objects: ProceduralObjects
    poses: Tensor
    intrinsics: Tensor
    sample: int
    epoch: int


class ProceduralDataset(Dataset[_Item]):
    """Descriptions of objects and cameras; item ``(epoch, sample)`` depends on nothing but the seed.

    Args:
        seed: The run's seed.
        views: Cameras per object.
        elevation, fov, zoom: Ranges of `vfusion3d.random_sphere`.
    """

    def __init__(
        self,
        seed: int,
        views: int,
        elevation: tuple[float, float],
        fov: tuple[float, float],
        zoom: tuple[float, float],
    ) -> None:
        self.seed, self.views = seed, views
        self.elevation, self.fov, self.zoom = elevation, fov, zoom

    def __getitem__(self, index: tuple[int, int]) -> _Item:
        epoch, sample = index
        generator = sample_generator(self.seed, sample, epoch, _CAMERA_STREAM)
        cameras = random_sphere(self.views, self.elevation, self.fov, self.zoom, generator)
        return {
            "objects": sample_object(sample_seed(self.seed, sample, epoch, _OBJECT_STREAM)),
            "poses": cameras.poses,
            "intrinsics": cameras.intrinsics,
            "sample": sample,
            "epoch": epoch,
        }


class ProceduralDataModule(MultiViewDataModule):
    """Procedural objects seen from random cameras, new in every epoch.

    Loaders deliver descriptions; pictures are made on the device in ``on_after_batch_transfer``.

    Args:
        samples_per_epoch: Objects per epoch, over all processes.
        batch_size: Objects per step and process.
        views: Pictures per object; the first is the model's input.
        resolution: Height and width of the pictures.
        supersample: Rays per pixel and axis along edges.
        elevation: Lowest and highest camera elevation, radians.
        fov: Smallest and largest field of view, degrees.
        zoom: Smallest and largest camera distance, in units of `fit_radius` of the field of view.
        seed: Decides all objects and cameras.
        num_workers: Worker processes that describe objects (about a millisecond each).
        points: Points per object labelled as inside or outside, for `LossWeights.inside`; 0 for none.
        val_samples: Objects of the validation set, which is the same in every epoch; 0 for none.
    """

    def __init__(
        self,
        samples_per_epoch: int = 4096,
        batch_size: int = 8,
        views: int = 4,
        resolution: int = 96,
        supersample: int = 2,
        elevation: tuple[float, float] = (-0.2, 1.0),
        fov: tuple[float, float] = (30.0, 60.0),
        zoom: tuple[float, float] = (1.0, 1.15),
        seed: int = 0,
        num_workers: int = 0,
        points: int = 0,
        val_samples: int = 0,
    ) -> None:
        super().__init__(batch_size, samples_per_epoch)
        self.views, self.resolution, self.supersample = views, resolution, supersample
        self.elevation, self.fov, self.zoom = elevation, fov, zoom
        self.seed, self.num_workers, self.points, self.val_samples = seed, num_workers, points, val_samples

    def _dataset(self, seed: int) -> ProceduralDataset:
        return ProceduralDataset(seed, self.views, self.elevation, self.fov, self.zoom)

    @property
    def licences(self) -> list[str]:
        """Of procedural objects."""
        return [LICENCE]

    def train_dataloader(self) -> DataLoader[Any]:
        """Fresh objects in every epoch."""
        sampler = EpochSampler(
            self.samples_per_epoch, [self.samples_per_epoch], self.step_batch_size, self.seed, shuffle=False
        )
        return ResumableLoader(self._dataset(self.seed), sampler, self.batch_size, self.num_workers)

    def val_dataloader(self) -> Any:
        """The same objects every time, none of which is trained on."""
        if not self.val_samples:
            return []
        dataset = self._dataset(sample_seed(self.seed, 0, 0, _VALIDATION_STREAM))
        return DataLoader(dataset, batch_size=self.batch_size, sampler=FixedEpochSampler([self.val_samples]))

    def on_after_batch_transfer(self, batch: _Item, dataloader_idx: int) -> MultiViewBatch:
        """Render the pictures on the batch's device."""
        cameras = Cameras(batch["poses"], batch["intrinsics"])
        images = render(batch["objects"], cameras, self.resolution, self.resolution, self.supersample)
        sample, epoch = (torch.as_tensor(batch[key], device=images.device) for key in ("sample", "epoch"))  # type: ignore[literal-required]
        delivered: MultiViewBatch = {
            "images": images,
            "poses": cameras.poses,
            "intrinsics": cameras.intrinsics,
            "sample": sample,
            "epoch": epoch,
        }
        if self.points:
            unit = unit_noise(self.seed, sample, epoch, 3 * self.points, _POINT_STREAM)
            points = ball_points(unit.unflatten(-1, (self.points, 3)))
            delivered |= {"points": points, "inside": inside_objects(batch["objects"], points).float()}
        return delivered
