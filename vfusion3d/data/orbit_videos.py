"""Orbit videos of rendered objects, on which a video model is fine-tuned (paper, section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypedDict

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vfusion3d.cameras import MAX_ELEVATION, Cameras, Rig
from vfusion3d.data.loading import EpochSampler, FixedEpochSampler, ResumableLoader
from vfusion3d.data.module import MultiViewDataModule
from vfusion3d.data.packing import fit_rig, orbit_elevation
from vfusion3d.data.randomness import sample_generator, unit_noise
from vfusion3d.data.rendered_module import split_scenes
from vfusion3d.data.resize import area_resize
from vfusion3d.data.shards import ShardSet
from vfusion3d.data.views_dataset import Items, SceneItems, ViewsDataset, licence_texts
from vfusion3d.errors import SceneError, UsageError

_START_STREAM, _COLOUR_STREAM = 11, 12
_ELEVATION_SLACK = 0.05  # radians by which an orbit's jittered cameras may seem to leave the range


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


class LoadedOrbit(TypedDict):
    """An item, or a batch ``[B, ...]`` of them, on its way from a worker to the device.

    Keys:
        pixels: uint8 ``[F, H, W, 4]``, RGBA with premultiplied alpha.
    """

    pixels: Tensor
    poses: Tensor
    intrinsics: Tensor
    caption: str
    sample: int
    epoch: int


class OrbitDataset(Dataset[LoadedOrbit]):
    """All frames of items in order; element ``(epoch, sample)`` depends on nothing but the seed.

    Args:
        items: Where the pictures are.
        captions: One for each item.
        rig: What all items share.
        resolution: Height and width of the pictures that will be delivered.
        seed: The run's seed.
        random_start: Whether an orbit starts at any of its frames, its cameras turned so that this is azimuth 0.
        cache_gib: Keep decoded pictures in memory if all of them fit into this many GiB.
    """

    def __init__(
        self,
        items: Items,
        captions: Sequence[str],
        rig: Rig,
        resolution: int,
        seed: int,
        random_start: bool = False,
        cache_gib: float = 0.0,
    ) -> None:
        self.items, self.captions, self.rig = items, captions, rig
        self.seed, self.random_start = seed, random_start
        self._views = ViewsDataset([items], rig.frames, resolution, seed, cache_gib=cache_gib)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: tuple[int, int]) -> LoadedOrbit:
        epoch, sample = index
        item = sample % len(self.items)
        pixels, cameras = self._views.pictures(0, item, range(self.rig.frames)), self.items.cameras(item)
        if self.random_start:
            generator = sample_generator(self.seed, sample, epoch, _START_STREAM)
            start = int(torch.randint(self.rig.frames, (), generator=generator))
            pixels, cameras = pixels.roll(-start, 0), started_at(cameras, start, self.rig.direction)
        return {
            "pixels": pixels,
            "poses": cameras.poses,
            "intrinsics": cameras.intrinsics,
            "caption": self.captions[item],
            "sample": sample,
            "epoch": epoch,
        }


def started_at(cameras: Cameras, start: int, direction: int) -> Cameras:
    """An orbit's cameras ``[F]`` from frame ``start`` on, in a world turned so that this one is at azimuth 0."""
    frames = len(cameras)
    angle = -direction * 2 * math.pi * start / frames
    turn = torch.eye(4)
    turn[:2, :2] = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return cameras[[(start + k) % frames for k in range(frames)]].transform(turn)


class OrbitVideoDataModule(MultiViewDataModule):
    """Orbits of rendered scenes, as ``vfusion3d render --layout orbit`` writes them, or shard sets of such.

    Frame 0 is at azimuth 0 of the scene and the background is white. Every orbit runs in the rig's direction; none is
    mirrored, since a mirrored orbit turns the other way.

    Args:
        root: Folder of scene folders, or a shard set (a folder or an address).
        batch_size: Orbits per step and process.
        views: Frames of an orbit, which all scenes must have (paper: 16).
        resolution: Height and width of the frames in pixels.
        exclude: Names of scenes that are never read, or a text file with one name per line.
        query: Rows of a shard set to use, as `SyntheticDataModule`.
        order_by: Column of a shard set by which ``limit`` takes the largest.
        limit: Use only so many scenes: the first by ``order_by`` or, without it, in a fixed random order of the names,
            so that smaller sets are part of larger ones.
        samples_per_epoch: Samples per epoch over all processes; null for one pass.
        val_fraction: Share of the scenes set aside for validation; whole scenes, chosen by name and ``seed``.
        random_start: Whether training orbits start at any of their frames; the world is turned so that it is azimuth 0.
        random_background: Whether training orbits are on a random colour, the same in all frames, instead of white.
        seed: Decides order and augmentation.
        num_workers: Worker processes that read pictures.
        cache_gib: Keep decoded pictures in memory if all of them fit into this many GiB; 0 switches it off.

    Raises:
        UsageError: if a number is out of range.
    """

    def __init__(
        self,
        root: str,
        batch_size: int = 1,
        views: int = 16,
        resolution: int = 256,
        exclude: list[str] | str | None = None,
        query: str | None = None,
        order_by: str | None = None,
        limit: int | None = None,
        samples_per_epoch: int | None = None,
        val_fraction: float = 0.0,
        random_start: bool = False,
        random_background: bool = False,
        seed: int = 0,
        num_workers: int = 0,
        cache_gib: float = 2.0,
    ) -> None:
        super().__init__(batch_size, samples_per_epoch)
        for name, value in (("views", views), ("resolution", resolution)):
            if value < 1:
                raise UsageError(f"Argument `{name}` must be at least 1, but got {value}.")
        if not 0 <= val_fraction < 1:
            raise UsageError(f"Argument `val_fraction` must be in [0, 1), but got {val_fraction}.")
        self.root, self.views, self.resolution, self.limit = root, views, resolution, limit
        self.exclude, self.query, self.order_by, self.val_fraction = exclude, query, order_by, val_fraction
        self.random_start, self.random_background = random_start, random_background
        self.seed, self.num_workers, self.cache_gib = seed, num_workers, cache_gib
        self._train: OrbitDataset | None = None
        self._validation: OrbitDataset | None = None
        self.rig: Rig | None = None
        """The cameras that all orbits share; after `setup`."""

    def setup(self, stage: str) -> None:
        """Read cameras and captions; pictures are read on demand.

        Raises:
            SceneError, ShardError: naming a scene that is no orbit of the wanted kind, or another rig's.
            UsageError: as `RenderedDataModule`.
        """
        if self._train is not None:
            return
        parts = split_scenes(
            self.root, self.exclude, self.query, self.order_by, self.limit, self.val_fraction, self.seed
        )
        self.rig = rig = _shared_rig([items for items in parts if len(items)], self.views)
        datasets = [
            OrbitDataset(items, _captions(items), rig, self.resolution, self.seed, start, self.cache_gib)
            for items, start in zip(parts, (self.random_start, False), strict=True)
            if len(items)
        ]
        self._train, self._validation = datasets[0], next(iter(datasets[1:]), None)

    @property
    def licences(self) -> list[str]:
        """What the training scenes say of their licences."""
        self.setup("fit")
        assert self._train is not None
        return licence_texts([self._train.items])

    def samples_per_pass(self) -> int:
        """One sample per training scene."""
        self.setup("fit")
        assert self._train is not None
        return len(self._train)

    def train_dataloader(self) -> DataLoader[Any]:
        """Orbits in a random order; every scene comes once before one comes again."""
        assert self._train is not None, "setup() comes first"
        sampler = EpochSampler(self.samples_per_epoch, [len(self._train)], self.step_batch_size, self.seed, True)
        return ResumableLoader(self._train, sampler, self.batch_size, self.num_workers)

    def val_dataloader(self) -> Any:
        """The validation scenes, without augmentation."""
        self.setup("validate")
        if self._validation is None:
            return []
        sampler = FixedEpochSampler([len(self._validation)])
        return DataLoader(self._validation, batch_size=self.batch_size, sampler=sampler)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> OrbitBatch:
        """Frames of the resolution over the background, made on the batch's device."""
        pixels = batch["pixels"].movedim(-1, -3).float() / 255
        images = area_resize(pixels.flatten(0, 1), self.resolution, self.resolution).unflatten(0, pixels.shape[:2])
        augmented = self.random_background and self.trainer is not None and self.trainer.training
        colour = _colours(self.seed, batch["sample"], batch["epoch"]) if augmented else images.new_ones(1)
        return delivered_orbits(images, Cameras(batch["poses"], batch["intrinsics"]), batch, colour)


def delivered_orbits(images: Tensor, cameras: Cameras, about: Any, background: Tensor) -> OrbitBatch:
    """A batch of orbits.

    Args:
        images: Premultiplied RGBA, ``[B, F, 4, H, W]``.
        cameras: ``[B, F]``.
        about: Has ``caption``, ``sample`` and ``epoch``.
        background: Colour behind the objects, broadcastable to ``[B, F, 3, H, W]``.
    """
    return {
        "frames": images[:, :, :3] + (1 - images[:, :, 3:]) * background,
        "poses": cameras.poses,
        "intrinsics": cameras.intrinsics,
        "caption": about["caption"],
        "sample": about["sample"],
        "epoch": about["epoch"],
    }


def _colours(seed: int, samples: Tensor, epochs: Tensor) -> Tensor:
    """One colour for each orbit, ``[B, 1, 3, 1, 1]``."""
    return unit_noise(seed, samples, epochs, 3, _COLOUR_STREAM)[:, None, :, None, None]


def _shared_rig(parts: list[Items], views: int) -> Rig:
    """The rig of all items, each of which has to be an orbit as the paper's.

    Raises:
        SceneError: naming the item that is none.
    """
    named = parts[0].rig if isinstance(parts[0], ShardSet) and not parts[0].has_poses else None
    if named is not None:  # generated orbits, whose elevation is clamped
        rig = named
    else:
        rig = fit_rig(parts, "leave it out with `exclude`, or render it with --layout orbit")
    if rig.frames != views:
        raise SceneError(
            f"The orbits have {rig.frames} views (the first is the {parts[0].name(0)}), but {views} are asked for: set "
            f"`views` to {rig.frames} and use a video model of as many frames, or render with --views {views}."
        )
    for items in parts if named is None else ():
        for item in range(len(items)):
            elevation = orbit_elevation(items.cameras(item))
            if not -_ELEVATION_SLACK <= elevation <= MAX_ELEVATION + _ELEVATION_SLACK:
                raise SceneError(
                    f"The {items.name(item)} is seen from an elevation of {math.degrees(elevation):.3g} degrees, but "
                    f"orbits are taken between 0 and {math.degrees(MAX_ELEVATION):g}: leave it out with `exclude` or "
                    "render it again."
                )
    return rig


def _captions(items: Items) -> list[str]:
    """What each item shows, "" if unknown."""
    if isinstance(items, SceneItems):
        return [scene.info.caption or "" for scene in items.scenes]
    if not isinstance(items, ShardSet) or "prompt" not in items.columns:
        return [""] * len(items)
    return [text or "" for text in items.attributes()["prompt"].to_pylist()]
