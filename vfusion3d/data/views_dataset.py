"""One dataset for all items that have views, whether they lie in scene folders or in shards."""

from __future__ import annotations

import math
import mmap
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from typing_extensions import NotRequired

from vfusion3d.cameras import Cameras
from vfusion3d.data.batches import MultiViewBatch
from vfusion3d.data.randomness import sample_generator
from vfusion3d.data.resize import area_resize
from vfusion3d.data.scenes import Scene
from vfusion3d.data.solids import ball_points, inside_hull
from vfusion3d.errors import SceneError
from vfusion3d.licences import NOT_RECORDED

_VIEW_STREAM, _AUGMENTATION_STREAM, _POINT_STREAM = 4, 5, 9


class Items(Protocol):
    """Things with pictures and cameras, by number; `SceneItems` and `ShardSet` are such."""

    size: tuple[int, int] | None
    """Height and width of all pictures; None if they differ."""

    def __len__(self) -> int: ...

    @property
    def counts(self) -> np.ndarray:
        """Views of each item, int64 ``[N]``."""

    def name(self, item: int) -> str:
        """An item in words, for messages."""

    def cameras(self, item: int) -> Cameras:
        """All cameras of an item, ``[V]``."""

    def pixels(self, item: int, views: Sequence[int]) -> list[np.ndarray]:
        """Some pictures of an item: uint8 ``[H, W, 4]`` each, RGBA with premultiplied alpha."""

    def licences(self) -> Counter[str | None]:
        """What the items say of their licences (None: nothing), and how many of them."""


class SceneItems:
    """Scene folders as `Items`.

    Args:
        scenes: The scenes.
    """

    def __init__(self, scenes: Sequence[Scene]) -> None:
        self.scenes = scenes
        sizes = {(scene.height, scene.width) for scene in scenes}
        self.size = sizes.pop() if len(sizes) == 1 else None

    @staticmethod
    def load(folders: Sequence[Path]) -> SceneItems:
        """Read the cameras of scene folders.

        Raises:
            SceneError: naming a folder that cannot be used.
        """
        scenes = [Scene.load(folder) for folder in folders]
        for scene in scenes:
            try:
                scene.cameras.validate()
            except ValueError as error:
                raise SceneError(f"The cameras of {scene.folder} cannot be used: {error}") from error
        return SceneItems(scenes)

    def __len__(self) -> int:
        return len(self.scenes)

    @property
    def counts(self) -> np.ndarray:
        """Views of each scene."""
        return np.array([len(scene) for scene in self.scenes], np.int64)

    def name(self, item: int) -> str:
        """The scene's folder."""
        return f"scene {self.scenes[item].folder}"

    def cameras(self, item: int) -> Cameras:
        """All cameras of a scene."""
        return self.scenes[item].cameras

    def pixels(self, item: int, views: Sequence[int]) -> list[np.ndarray]:
        """Some pictures of a scene, premultiplied."""
        return [self.scenes[item].premultiplied(view) for view in views]

    def licences(self) -> Counter[str | None]:
        """What the scenes say of their licences, and how many of them."""
        return Counter(scene.info.licence for scene in self.scenes)


def licence_texts(sources: Iterable[Items]) -> list[str]:
    """Everything that items say of their licences, each statement once, sorted."""
    texts = {text for items in sources for text in items.licences()}
    return sorted({line for text in texts for line in (text or NOT_RECORDED).splitlines()})


class LoadedViews(TypedDict):
    """An item, or a batch ``[B, ...]`` of them, on its way from a worker to the device: four bytes a pixel.

    Keys:
        pixels: uint8 ``[V, H, W, 4]``, RGBA with premultiplied alpha, of the size on disk where all pictures of the
            data have one.
        mirrored: Whether the pictures are to be mirrored; the cameras and points are already.
        hue: Turn of the hue in parts of the circle.
    """

    pixels: Tensor
    poses: Tensor
    intrinsics: Tensor
    mirrored: Tensor
    hue: Tensor
    sample: Tensor
    epoch: Tensor
    points: NotRequired[Tensor]
    inside: NotRequired[Tensor]


class _PixelCache:
    """Decoded pictures, uint8 ``[N, S, S, 4]``, in memory that forked workers share; filled as they are read.

    Two workers may fill the same picture; both write the same bytes, and the flag comes last.
    """

    def __init__(self, count: int, size: int) -> None:
        self.count, self.size = count, size
        self._allocate()

    def _allocate(self) -> None:
        length = 4 * self.size * self.size
        memory = mmap.mmap(-1, self.count * (length + 1))
        block = torch.frombuffer(memory, dtype=torch.uint8)
        self.pixels = block[: self.count * length].view(self.count, self.size, self.size, 4)
        self.ready = block[self.count * length :]

    def __getstate__(self) -> dict[str, int]:
        """Where workers are spawned, each starts with an empty cache of its own."""
        return {"count": self.count, "size": self.size}

    def __setstate__(self, state: dict[str, int]) -> None:
        self.__dict__.update(state)
        self._allocate()


class ViewsDataset(Dataset[LoadedViews]):
    """Random views of items; element ``(epoch, sample)`` depends on nothing but the seed.

    Args:
        sources: Where the items are; sample ``s`` of K sources shows source ``s % K``, and of its N items number
            ``s // K % N`` (see `EpochSampler`).
        views: Pictures per item, distinct; the first is the model's input.
        resolution: Height and width of the pictures that will be delivered.
        seed: The run's seed.
        p_first: Chance that the input is the item's first picture rather than a random one.
        mirror: Whether half of the items are mirrored across y = 0, pictures and cameras.
        hue: Largest turn of the hue in either direction, in parts of the circle.
        cache_gib: Keep decoded pictures in memory if all of them fit into this many GiB.
        points: Points per item labelled by the visual hull of all the item's pictures, which are best cached.
        view_pool: Only the first so many pictures of an item are used; None for all.

    Raises:
        SceneError: naming an item with fewer pictures than ``views``.
    """

    def __init__(
        self,
        sources: Sequence[Items],
        views: int,
        resolution: int,
        seed: int,
        p_first: float = 0.0,
        mirror: bool = False,
        hue: float = 0.0,
        cache_gib: float = 2.0,
        points: int = 0,
        view_pool: int | None = None,
    ) -> None:
        self.sources, self.views, self.resolution, self.seed = sources, views, resolution, seed
        self.p_first, self.mirror, self.hue, self.points = p_first, mirror, hue, points
        self._first: list[np.ndarray] = []
        total = 0
        for source in sources:
            counts = source.counts if view_pool is None else np.minimum(source.counts, view_pool)
            few = counts < views
            if few.any():
                item = int(few.argmax())
                raise SceneError(
                    f"The {source.name(item)} has {counts[item]} pictures, but {views} views are asked for; exclude it "
                    "or lower `views`."
                )
            self._first.append(np.concatenate([[total], total + np.cumsum(counts)]))
            total = int(self._first[-1][-1])
        self.cache = _PixelCache(total, resolution) if total * 4 * resolution**2 <= cache_gib * 2**30 else None
        self._uniform = None not in (sizes := {source.size for source in sources}) and len(sizes) == 1

    def __len__(self) -> int:
        return sum(len(source) for source in self.sources)

    def pictures(self, source: int, item: int, views: Sequence[int]) -> Tensor:
        """Some pictures of an item, uint8 ``[V, H, W, 4]``, premultiplied: of the resolution if they are cached or
        of several sizes on disk, else as they are."""
        if self.cache is None:
            pixels = [torch.from_numpy(array) for array in self.sources[source].pixels(item, views)]
            return torch.stack(pixels if self._uniform else [self._resized(picture) for picture in pixels])
        places = [int(self._first[source][item]) + view for view in views]
        missing = [k for k, place in enumerate(places) if not self.cache.ready[place]]
        if missing:
            arrays = self.sources[source].pixels(item, [views[k] for k in missing])
            for k, array in zip(missing, arrays, strict=True):
                self.cache.pixels[places[k]] = self._resized(torch.from_numpy(array))
                self.cache.ready[places[k]] = 1
        if isinstance(views, range):  # no copy
            return self.cache.pixels[places[0] : places[-1] + 1]
        return self.cache.pixels[places]

    def _resized(self, pixels: Tensor) -> Tensor:
        size = self.resolution
        if pixels.shape[:2] == (size, size):
            return pixels
        return area_resize(pixels.permute(2, 0, 1).float(), size, size).round().to(torch.uint8).permute(1, 2, 0)

    def __getitem__(self, index: tuple[int, int]) -> LoadedViews:
        epoch, sample = index
        turn, source = divmod(sample, len(self.sources))
        item = turn % len(self.sources[source])
        count = int(self._first[source][item + 1] - self._first[source][item])
        generator = sample_generator(self.seed, sample, epoch, _VIEW_STREAM)
        chosen = torch.randperm(count, generator=generator).tolist()
        if float(torch.rand((), generator=generator)) < self.p_first:
            chosen.remove(0)
            chosen.insert(0, 0)
        chosen = chosen[: self.views]
        cameras = self.sources[source].cameras(item)
        draw = torch.rand(2, generator=sample_generator(self.seed, sample, epoch, _AUGMENTATION_STREAM)).tolist()
        mirrored = self.mirror and draw[0] < 0.5
        shown = cameras[chosen].mirrored() if mirrored else cameras[chosen]
        loaded: LoadedViews = {
            "pixels": self.pictures(source, item, chosen),
            "poses": shown.poses,
            "intrinsics": shown.intrinsics,
            "mirrored": torch.tensor(mirrored),
            "hue": torch.tensor(self.hue * (2 * draw[1] - 1)),
            "sample": torch.tensor(sample),
            "epoch": torch.tensor(epoch),
        }
        if self.points:
            unit = torch.rand(self.points, 3, generator=sample_generator(self.seed, sample, epoch, _POINT_STREAM))
            points = ball_points(unit)
            masks = self.pictures(source, item, range(count))[..., 3]
            inside = inside_hull(masks, cameras[:count], points).float()
            loaded |= {"points": points * points.new_tensor([1, -1 if mirrored else 1, 1]), "inside": inside}
        return loaded


def delivered(loaded: LoadedViews, resolution: int) -> MultiViewBatch:
    """What training gets of a loaded batch, made on its device: resized by area, mirrored, its hue turned.

    Args:
        loaded: A batch, ``[B, ...]``.
        resolution: Height and width of the pictures.
    """
    pixels = loaded["pixels"]
    if pixels.device.type == "cpu":  # one at a time: memory for all at once comes from the system anew, page by page
        images = torch.empty(*pixels.shape[:-3], 4, resolution, resolution)
        for place, picture in zip(images.flatten(0, -4), pixels.flatten(0, -4), strict=True):
            place.copy_(_floats(picture, resolution))
    else:
        images = _floats(pixels, resolution)
    if bool(loaded["mirrored"].any()):
        images = torch.where(loaded["mirrored"][:, None, None, None, None], images.flip(-1), images)
    if bool(loaded["hue"].any()):
        images = shift_hue(images, loaded["hue"][:, None, None, None])
    batch: MultiViewBatch = {
        "images": images,
        "poses": loaded["poses"],
        "intrinsics": loaded["intrinsics"],
        "sample": loaded["sample"],
        "epoch": loaded["epoch"],
    }
    if "points" in loaded:
        batch |= {"points": loaded["points"], "inside": loaded["inside"]}
    return batch


def _floats(pixels: Tensor, resolution: int) -> Tensor:
    """Pictures uint8 ``[..., H, W, 4]`` as floats in [0, 1] of a size, ``[..., 4, resolution, resolution]``."""
    # Rows first, columns and channels together as they lie in memory.
    rows = area_resize(pixels.flatten(-2).float() / 255, resolution, 4 * pixels.shape[-2])
    return area_resize(rows.unflatten(-1, (-1, 4)).movedim(-1, -3), resolution, resolution)


def shift_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the colours of premultiplied ``[..., 4, H, W]`` about the grey axis, in parts of the circle.

    The turn is linear, so it commutes with premultiplication; what leaves the colour cube is clipped.

    Args:
        images: The pictures.
        shift: Broadcastable to their shape without channels.
    """
    cos, sin = torch.cos(2 * math.pi * shift), torch.sin(2 * math.pi * shift)
    same, ahead, behind = (1 + 2 * cos) / 3, (1 - cos) / 3 - sin / math.sqrt(3), (1 - cos) / 3 + sin / math.sqrt(3)
    red, green, blue, alpha = images.unbind(-3)
    turned = [
        same * a + ahead * b + behind * c for a, b, c in ((red, green, blue), (green, blue, red), (blue, red, green))
    ]
    return torch.stack([*(torch.minimum(x.clamp_min(0), alpha) for x in turned), alpha], -3)
