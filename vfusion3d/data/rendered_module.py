"""Training data from scene folders."""

from __future__ import annotations

import math
import mmap
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vfusion3d.data.batches import MultiViewBatch
from vfusion3d.data.held_out import excluded_names
from vfusion3d.data.loading import EpochSampler, FixedEpochSampler, ResumableLoader
from vfusion3d.data.module import MultiViewDataModule
from vfusion3d.data.randomness import sample_generator
from vfusion3d.data.resize import area_resize
from vfusion3d.data.scenes import TRANSFORMS, Scene
from vfusion3d.data.solids import ball_points, inside_hull
from vfusion3d.errors import SceneError, UsageError

_VIEW_STREAM, _AUGMENTATION_STREAM, _SPLIT_STREAM, _POINT_STREAM = 4, 5, 6, 9


class _PixelCache:
    """Decoded pictures, uint8 ``[N, 4, S, S]``, in memory that forked workers share; filled as they are read.

    Two workers may fill the same picture; both write the same bytes, and the flag comes last.
    """

    def __init__(self, count: int, size: int) -> None:
        self.count, self.size = count, size
        self._allocate()

    def _allocate(self) -> None:
        length = 4 * self.size * self.size
        memory = mmap.mmap(-1, self.count * (length + 1))
        block = torch.frombuffer(memory, dtype=torch.uint8)
        self.pixels = block[: self.count * length].view(self.count, 4, self.size, self.size)
        self.ready = block[self.count * length :]

    def __getstate__(self) -> dict[str, int]:
        """Where workers are spawned, each starts with an empty cache of its own."""
        return {"count": self.count, "size": self.size}

    def __setstate__(self, state: dict[str, int]) -> None:
        self.__dict__.update(state)
        self._allocate()


class RenderedDataset(Dataset[MultiViewBatch]):
    """Random views of scenes; item ``(epoch, sample)`` depends on nothing but the seed.

    Args:
        scenes: The scenes; sample ``s`` shows scene ``s % len(scenes)``.
        views: Pictures per item, distinct; the first is the model's input.
        resolution: Height and width of the pictures; others are resized with an area filter.
        seed: The run's seed.
        p_first: Chance that the input is the scene's first picture rather than a random one.
        mirror: Whether half of the items are mirrored across y = 0, pictures and cameras.
        hue: Largest turn of the hue in either direction, in parts of the circle.
        cache_gib: Keep decoded pictures in memory if all of them fit into this many GiB.
        points: Points per item labelled by the visual hull of all the scene's pictures, which are best cached.

    Raises:
        SceneError: naming a scene with fewer pictures than ``views``.
    """

    def __init__(
        self,
        scenes: list[Scene],
        views: int,
        resolution: int,
        seed: int,
        p_first: float = 0.0,
        mirror: bool = False,
        hue: float = 0.0,
        cache_gib: float = 2.0,
        points: int = 0,
    ) -> None:
        for scene in scenes:
            if len(scene) < views:
                raise SceneError(
                    f"The scene {scene.folder} has {len(scene)} pictures, but {views} views are asked for."
                )
        self.scenes, self.views, self.resolution, self.seed = scenes, views, resolution, seed
        self.p_first, self.mirror, self.hue, self.points = p_first, mirror, hue, points
        self.first = [0]
        for scene in scenes:
            self.first.append(self.first[-1] + len(scene))
        fits = self.first[-1] * 4 * resolution**2 <= cache_gib * 2**30
        self.cache = _PixelCache(self.first[-1], resolution) if fits else None

    def __len__(self) -> int:
        return len(self.scenes)

    def _picture(self, scene: int, view: int) -> Tensor:
        """One picture, premultiplied, ``[4, resolution, resolution]``."""
        index = self.first[scene] + view
        if self.cache is not None and self.cache.ready[index]:
            return self.cache.pixels[index] / 255
        picture = area_resize(self.scenes[scene].image(view), self.resolution, self.resolution)
        if self.cache is None:
            return picture
        self.cache.pixels[index] = (picture * 255).round().to(torch.uint8)
        self.cache.ready[index] = 1
        return self.cache.pixels[index] / 255  # rounded already the first time, so that epochs agree

    def __getitem__(self, index: tuple[int, int]) -> MultiViewBatch:
        epoch, sample = index
        number = sample % len(self.scenes)
        scene = self.scenes[number]
        generator = sample_generator(self.seed, sample, epoch, _VIEW_STREAM)
        chosen = torch.randperm(len(scene), generator=generator).tolist()
        if float(torch.rand((), generator=generator)) < self.p_first:
            chosen.remove(0)
            chosen.insert(0, 0)
        chosen = chosen[: self.views]
        images = torch.stack([self._picture(number, view) for view in chosen])
        cameras = scene.cameras[chosen]
        draw = torch.rand(2, generator=sample_generator(self.seed, sample, epoch, _AUGMENTATION_STREAM)).tolist()
        mirrored = self.mirror and draw[0] < 0.5
        if mirrored:
            images, cameras = images.flip(-1), cameras.mirrored()
        if self.hue:
            images = _shift_hue(images, self.hue * (2 * draw[1] - 1))
        item: MultiViewBatch = {
            "images": images,
            "poses": cameras.poses,
            "intrinsics": cameras.intrinsics,
            "sample": torch.tensor(sample),
            "epoch": torch.tensor(epoch),
        }
        if self.points:
            unit = torch.rand(self.points, 3, generator=sample_generator(self.seed, sample, epoch, _POINT_STREAM))
            points = ball_points(unit)
            inside = inside_hull(self._masks(number), scene.cameras, points).float()
            item |= {"points": points * points.new_tensor([1, -1 if mirrored else 1, 1]), "inside": inside}
        return item

    def _masks(self, scene: int) -> Tensor:
        """Opacities of all pictures of a scene, ``[V, resolution, resolution]``."""
        start, end = self.first[scene], self.first[scene + 1]
        if self.cache is not None and bool(self.cache.ready[start:end].all()):
            return self.cache.pixels[start:end, 3]
        return torch.stack([self._picture(scene, view)[3] for view in range(end - start)])


def _shift_hue(images: Tensor, shift: float) -> Tensor:
    """Turn the colours of premultiplied ``[..., 4, H, W]`` about the grey axis, in parts of the circle.

    The turn is linear, so it commutes with premultiplication; what leaves the colour cube is clipped.
    """
    cos, sin = math.cos(2 * math.pi * shift), math.sin(2 * math.pi * shift)
    same, ahead, behind = (1 + 2 * cos) / 3, (1 - cos) / 3 - sin / math.sqrt(3), (1 - cos) / 3 + sin / math.sqrt(3)
    red, green, blue, alpha = images.unbind(-3)
    turned = [
        same * a + ahead * b + behind * c for a, b, c in ((red, green, blue), (green, blue, red), (blue, red, green))
    ]
    return torch.stack([*(torch.minimum(x.clamp_min(0), alpha) for x in turned), alpha], -3)


def find_scenes(root: str | os.PathLike[str]) -> list[Path]:
    """Scene folders in a folder, sorted by name.

    Raises:
        SceneError: if there is no such folder or no scene in it.
    """
    root = Path(root)
    if not root.is_dir():
        raise SceneError(
            f"The folder {root} does not exist; name a folder of scenes, as `vfusion3d render` writes them."
        )
    folders = sorted(path.parent for path in root.glob(f"*/{TRANSFORMS}"))
    if not folders:
        raise SceneError(f"The folder {root} has no scenes: none of its folders has a {TRANSFORMS}.")
    return folders


class RenderedDataModule(MultiViewDataModule):
    """Random views of scene folders, as `vfusion3d render` writes them.

    Args:
        root: Folder of scene folders.
        batch_size: Scenes per step and process.
        views: Pictures per scene, distinct; the first is the model's input and all are supervised.
        resolution: Height and width of the pictures.
        exclude: Names of scene folders that are never read, or a text file with one name per line.
        samples_per_epoch: Samples per epoch over all processes. A null is one pass over the scenes or, in a
            `MixedDataModule`, as many as the longest sibling needs. A scene's views differ in each pass.
        val_fraction: Share of the scenes set aside for validation; whole scenes, chosen by ``seed``.
        p_first: Chance that the input is the scene's first picture rather than a random one.
        mirror: Whether half of the training items are mirrored across y = 0, pictures and cameras.
        hue: Largest turn of the training pictures' hue in either direction, in parts of the circle.
        seed: Decides order, views and augmentation.
        num_workers: Worker processes that read pictures.
        cache_gib: Keep decoded pictures in memory if all of them fit into this many GiB; 0 switches it off.
        points: Points per scene labelled as inside or outside, for `LossWeights.inside`; 0 for none. Labels come
            from the visual hull of all the scene's pictures: have many, and room for them in the cache.
    """

    def __init__(
        self,
        root: str,
        batch_size: int = 8,
        views: int = 4,
        resolution: int = 128,
        exclude: list[str] | str | None = None,
        samples_per_epoch: int | None = None,
        val_fraction: float = 0.0,
        p_first: float = 0.0,
        mirror: bool = True,
        hue: float = 0.0,
        seed: int = 0,
        num_workers: int = 0,
        cache_gib: float = 2.0,
        points: int = 0,
    ) -> None:
        super().__init__(batch_size, samples_per_epoch)
        if not 0 <= val_fraction < 1:
            raise UsageError(f"Argument `val_fraction` must be in [0, 1), but got {val_fraction}.")
        if not 0 <= p_first <= 1:
            raise UsageError(f"Argument `p_first` must be in [0, 1], but got {p_first}.")
        self.root, self.views, self.resolution = root, views, resolution
        self.exclude, self.val_fraction = exclude, val_fraction
        self.p_first, self.mirror, self.hue = p_first, mirror, hue
        self.seed, self.num_workers, self.cache_gib, self.points = seed, num_workers, cache_gib, points
        self._split: tuple[list[Path], list[Path]] | None = None
        self._train: RenderedDataset | None = None

    def split(self) -> tuple[list[Path], list[Path]]:
        """Scene folders for training and for validation.

        Raises:
            SceneError: if there are no scenes, or none is left.
            UsageError: if the list to exclude cannot be read or matches nothing, which is likely a mistake.
        """
        if self._split is None:
            folders = find_scenes(self.root)
            excluded = excluded_names(self.exclude)
            if excluded and not excluded & {folder.name for folder in folders}:
                raise UsageError(
                    f"None of the {len(excluded)} names in `exclude` is a scene in {self.root}; check them."
                )
            folders = [folder for folder in folders if folder.name not in excluded]
            order = torch.randperm(len(folders), generator=sample_generator(self.seed, 0, 0, _SPLIT_STREAM)).tolist()
            count = math.ceil(len(folders) * self.val_fraction)
            validation = {folders[k] for k in order[:count]}
            training = [folder for folder in folders if folder not in validation]
            if not training:
                raise SceneError(
                    f"No scene of {self.root} is left for training; exclude fewer or lower `val_fraction`."
                )
            self._split = training, sorted(validation)
        return self._split

    def samples_per_pass(self) -> int:
        """One sample per training scene."""
        return len(self.split()[0])

    def setup(self, stage: str) -> None:
        """Read the scenes' cameras; pictures are read on demand."""
        if self._train is None:
            scenes = [Scene.load(folder) for folder in self.split()[0]]
            self._train = RenderedDataset(
                scenes,
                self.views,
                self.resolution,
                self.seed,
                self.p_first,
                self.mirror,
                self.hue,
                self.cache_gib,
                self.points,
            )

    def train_dataloader(self) -> DataLoader[Any]:
        """Random views in a random order; every scene comes once before one comes again."""
        assert self._train is not None, "setup() comes first"
        sampler = EpochSampler(self.samples_per_epoch, len(self._train), self.step_batch_size, self.seed, shuffle=True)
        return ResumableLoader(self._train, sampler, self.batch_size, self.num_workers)

    def val_dataloader(self) -> Any:
        """One fixed choice of views of each validation scene, without augmentation."""
        folders = self.split()[1]
        if not folders:
            return []
        scenes = [Scene.load(folder) for folder in folders]
        dataset = RenderedDataset(
            scenes, self.views, self.resolution, self.seed, self.p_first, cache_gib=self.cache_gib
        )
        return DataLoader(dataset, batch_size=self.batch_size, sampler=FixedEpochSampler(len(scenes)))
