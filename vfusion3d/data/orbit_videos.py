"""Orbit videos of rendered objects, on which a video model is fine-tuned (paper, section 3.2)."""

from __future__ import annotations

from typing import Any, TypedDict

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vfusion3d.data.held_out import excluded_names
from vfusion3d.data.loading import EpochSampler, FixedEpochSampler, ResumableLoader
from vfusion3d.data.module import MultiViewDataModule
from vfusion3d.data.packing import fit_rig
from vfusion3d.data.randomness import hash_order
from vfusion3d.data.rendered_module import find_scenes
from vfusion3d.data.resize import area_resize
from vfusion3d.data.shards import Rig
from vfusion3d.data.views_dataset import Items, SceneItems
from vfusion3d.errors import SceneError, UsageError


class OrbitBatch(TypedDict):
    """B orbits of F frames; frame 0 is what a video is made from.

    Keys:
        frames: RGB in [0, 1] on the background, float32, ``[B, F, 3, H, W]``.
        poses: Camera-to-world, float32, ``[B, F, 3, 4]``.
        intrinsics: Normalised ``(fx, fy, cx, cy)``, float32, ``[B, F, 4]``.
        caption: What is shown, "" if unknown; B strings.
        sample: Index of the sample in its data set, int64, ``[B]``.
        epoch: Number of the epoch, int64, ``[B]``; with ``sample`` it seeds all randomness of the item.
    """

    frames: Tensor
    poses: Tensor
    intrinsics: Tensor
    caption: list[str]
    sample: Tensor
    epoch: Tensor


class _LoadedOrbit(TypedDict):
    pixels: Tensor
    poses: Tensor
    intrinsics: Tensor
    caption: str
    sample: int
    epoch: int


class OrbitDataset(Dataset[_LoadedOrbit]):
    """All frames of items in order.

    Args:
        items: Where the pictures are.
        captions: One for each item.
    """

    def __init__(self, items: Items, captions: list[str]) -> None:
        self.items, self.captions = items, captions

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: tuple[int, int]) -> _LoadedOrbit:
        epoch, sample = index
        item = sample % len(self.items)
        cameras = self.items.cameras(item)
        pixels = self.items.pixels(item, range(int(self.items.counts[item])))
        return {
            "pixels": torch.stack([torch.from_numpy(picture) for picture in pixels]),
            "poses": cameras.poses,
            "intrinsics": cameras.intrinsics,
            "caption": self.captions[item],
            "sample": sample,
            "epoch": epoch,
        }


class OrbitVideoDataModule(MultiViewDataModule):
    """Orbits of rendered scenes, as ``vfusion3d render --layout orbit`` writes them.

    Args:
        root: Folder of scene folders.
        batch_size: Orbits per step and process.
        resolution: Height and width of the frames.
        exclude: Names of scenes that are never read, or a text file with one name per line.
        samples_per_epoch: Samples per epoch over all processes; null for one pass.
        val_fraction: Share of the scenes set aside for validation.
        seed: Decides order and augmentation.
        num_workers: Worker processes that read pictures.
    """

    def __init__(
        self,
        root: str,
        batch_size: int = 1,
        resolution: int = 256,
        exclude: list[str] | str | None = None,
        samples_per_epoch: int | None = None,
        val_fraction: float = 0.0,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__(batch_size, samples_per_epoch)
        if not 0 <= val_fraction < 1:
            raise UsageError(f"Argument `val_fraction` must be in [0, 1), but got {val_fraction}.")
        self.root, self.resolution, self.exclude = root, resolution, exclude
        self.val_fraction, self.seed, self.num_workers = val_fraction, seed, num_workers
        self._train: OrbitDataset | None = None
        self._validation: OrbitDataset | None = None
        self.rig: Rig | None = None
        """The cameras that all orbits share; after `setup`."""

    def setup(self, stage: str) -> None:
        """Read the cameras.

        Raises:
            SceneError: naming a scene that is no orbit or another rig's.
        """
        if self._train is not None:
            return
        excluded = excluded_names(self.exclude)
        folders = [folder for folder in find_scenes(self.root) if folder.name not in excluded]
        order = hash_order([folder.name for folder in folders], self.seed)
        count = round(len(folders) * self.val_fraction)
        parts = [sorted(folders[k] for k in part) for part in (order[count:], order[:count])]
        if not parts[0]:
            raise SceneError(f"No scene of {self.root} is left for training; exclude fewer or lower `val_fraction`.")
        items = [SceneItems.load(part) for part in parts]
        self.rig = fit_rig([scene for part in items for scene in part.scenes])
        self._train, self._validation = (
            OrbitDataset(part, [scene.info.caption or "" for scene in part.scenes]) for part in items
        )

    def samples_per_pass(self) -> int:
        """One sample per training scene."""
        self.setup("fit")
        assert self._train is not None
        return len(self._train)

    def train_dataloader(self) -> DataLoader[Any]:
        """Orbits in a random order."""
        assert self._train is not None, "setup() comes first"
        sampler = EpochSampler(self.samples_per_epoch, [len(self._train)], self.step_batch_size, self.seed, True)
        return ResumableLoader(self._train, sampler, self.batch_size, self.num_workers)

    def val_dataloader(self) -> Any:
        """The validation scenes."""
        if not self._validation:
            return []
        sampler = FixedEpochSampler([len(self._validation)])
        return DataLoader(self._validation, batch_size=self.batch_size, sampler=sampler)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> OrbitBatch:
        """Frames of the resolution over white, made on the batch's device."""
        pixels = batch["pixels"].movedim(-1, -3).float() / 255
        images = area_resize(pixels.flatten(0, 1), self.resolution, self.resolution).unflatten(0, pixels.shape[:2])
        kept = {key: batch[key] for key in ("poses", "intrinsics", "caption", "sample", "epoch")}
        return {"frames": images[:, :, :3] + 1 - images[:, :, 3:], **kept}  # type: ignore[typeddict-item]
