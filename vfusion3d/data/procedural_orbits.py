"""Orbits of procedural objects, drawn on the device: they train a video model without any file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vfusion3d.cameras import MAX_ELEVATION, Cameras, Rig, orbit
from vfusion3d.data.loading import EpochSampler, FixedEpochSampler, ResumableLoader
from vfusion3d.data.module import MultiViewDataModule
from vfusion3d.data.orbit_videos import OrbitBatch, delivered_orbits
from vfusion3d.data.packing import CAMERA_OFFSET, procedural_rig
from vfusion3d.data.procedural import LICENCE, check_kinds, sample_object
from vfusion3d.data.randomness import sample_generator, sample_seed
from vfusion3d.data.raycast import ProceduralObjects, render
from vfusion3d.errors import UsageError

_OBJECT_STREAM, _CAMERA_STREAM, _VALIDATION_STREAM = 21, 22, 23
_PIXELS = 2**20  # of an object's frames that are drawn at once


class _Item(TypedDict):
    """What a loader delivers: a description, not pictures."""

    objects: ProceduralObjects
    poses: Tensor
    intrinsics: Tensor
    caption: str
    sample: int
    epoch: int


class ProceduralOrbits(Dataset[_Item]):
    """Descriptions of objects and their orbits; item ``(epoch, sample)`` depends on nothing but the seed.

    Args:
        seed: The run's seed.
        rig: Of the orbits.
        offset_noise: As `vfusion3d.orbit`.
        objects: So many objects, sample k showing number k modulo them; None for new ones in every epoch.
        kinds: As `sample_object`.
    """

    def __init__(
        self, seed: int, rig: Rig, offset_noise: float, objects: int | None, kinds: Sequence[str] | None = None
    ) -> None:
        self.seed, self.rig, self.offset_noise, self.objects, self.kinds = seed, rig, offset_noise, objects, kinds

    def __getitem__(self, index: tuple[int, int]) -> _Item:
        epoch, sample = index
        turn, number = (epoch, sample) if self.objects is None else (0, sample % self.objects)
        generator = sample_generator(self.seed, number, turn, _CAMERA_STREAM)
        elevation, rig = float(torch.rand((), generator=generator)) * MAX_ELEVATION, self.rig
        cameras = orbit(rig.frames, elevation, rig.radius, rig.fov, 0.0, rig.direction, self.offset_noise, generator)
        return {
            "objects": sample_object(sample_seed(self.seed, number, turn, _OBJECT_STREAM), self.kinds),
            "poses": cameras.poses,
            "intrinsics": cameras.intrinsics,
            "caption": "",
            "sample": sample,
            "epoch": epoch,
        }


class ProceduralOrbitDataModule(MultiViewDataModule):
    """Orbits around procedural objects on white, frame 0 at azimuth 0, elevation uniform in [0, pi/4].

    Loaders deliver descriptions; frames are drawn on the device in ``on_after_batch_transfer``.

    Args:
        samples_per_epoch: Orbits per epoch, over all processes.
        batch_size: Orbits per step and process.
        views: Frames of an orbit (paper: 16).
        resolution: Height and width of the frames in pixels.
        supersample: Rays per pixel and axis along edges.
        offset_noise: Largest shift of each camera along each axis, world units (paper: 0.05).
        objects: Train on so many objects over and over; null for new ones in every epoch.
        kinds: Kinds of objects (`vfusion3d.data.assemblies.KINDS`); null for all.
        seed: Decides all objects and cameras.
        num_workers: Worker processes that describe objects (about a millisecond each).
        val_samples: Objects of the validation set, which is the same in every epoch and never trained on; 0 for none.
    """

    def __init__(
        self,
        samples_per_epoch: int = 1024,
        batch_size: int = 8,
        views: int = 16,
        resolution: int = 32,
        supersample: int = 2,
        offset_noise: float = CAMERA_OFFSET,
        objects: int | None = None,
        kinds: list[str] | None = None,
        seed: int = 0,
        num_workers: int = 0,
        val_samples: int = 0,
    ) -> None:
        super().__init__(batch_size, samples_per_epoch)
        for name, value in (("views", views), ("resolution", resolution), ("objects", objects)):
            if value is not None and value < 1:
                raise UsageError(f"Argument `{name}` must be at least 1, but got {value}.")
        self.views, self.resolution, self.supersample, self.offset_noise = views, resolution, supersample, offset_noise
        check_kinds(kinds)
        self.objects, self.kinds = objects, kinds
        self.seed, self.num_workers, self.val_samples = seed, num_workers, val_samples
        self.rig = procedural_rig(views)
        """The cameras that all orbits share."""

    @property
    def endless(self) -> bool:
        """Whether no orbit comes twice, so that it is of no use to keep their latents."""
        return self.objects is None

    @property
    def licences(self) -> list[str]:
        """Of procedural objects."""
        return [LICENCE]

    def train_dataloader(self) -> DataLoader[Any]:
        """Fresh objects in every epoch, or the same in another order."""
        dataset = ProceduralOrbits(self.seed, self.rig, self.offset_noise, self.objects, self.kinds)
        items = self.objects or self.samples_per_epoch
        sampler = EpochSampler(
            self.samples_per_epoch, [items], self.step_batch_size, self.seed, shuffle=self.objects is not None
        )
        return ResumableLoader(dataset, sampler, self.batch_size, self.num_workers)

    def val_dataloader(self) -> Any:
        """The same objects every time, none of which is trained on."""
        if not self.val_samples:
            return []
        seed = sample_seed(self.seed, 0, 0, _VALIDATION_STREAM)
        dataset = ProceduralOrbits(seed, self.rig, self.offset_noise, None, self.kinds)
        return DataLoader(dataset, batch_size=self.batch_size, sampler=FixedEpochSampler([self.val_samples]))

    def on_after_batch_transfer(self, batch: _Item, dataloader_idx: int) -> OrbitBatch:
        """Draw the frames on the batch's device."""
        cameras, size = Cameras(batch["poses"], batch["intrinsics"]), self.resolution
        frames = max(1, _PIXELS // size**2)
        parts = [
            render(batch["objects"], cameras[:, start : start + frames], size, size, self.supersample)
            for start in range(0, self.views, frames)
        ]
        images = torch.cat(parts, 1)
        numbers = {key: torch.as_tensor(batch[key], device=images.device) for key in ("sample", "epoch")}  # type: ignore[literal-required]
        return delivered_orbits(images, cameras, {**numbers, "caption": batch["caption"]}, images.new_ones(1))
