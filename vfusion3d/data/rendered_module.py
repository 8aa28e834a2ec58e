"""Training data from rendered scenes: folders, or shards of them."""

from __future__ import annotations

import math
import os
from pathlib import Path

from vfusion3d.data.held_out import excluded_names
from vfusion3d.data.randomness import hash_order
from vfusion3d.data.scenes import TRANSFORMS
from vfusion3d.data.shards import ShardSet, is_shard_set
from vfusion3d.data.views_dataset import Items, SceneItems
from vfusion3d.data.views_module import ViewsDataModule
from vfusion3d.errors import SceneError, UsageError


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


class RenderedDataModule(ViewsDataModule):
    """Random views of rendered scenes, each with its own cameras: as `vfusion3d render` or `vfusion3d data pack` writes
    them.

    Args:
        root: Folder of scene folders, or a shard set (a folder or an address); or a mapping from such to their shares
            of the samples, in any unit.
        batch_size: Scenes per step and process.
        views: Pictures per scene, distinct; the first is the model's input and all are supervised.
        resolution: Height and width of the pictures.
        exclude: Names of scenes that are never read, or a text file with one name per line.
        samples_per_epoch: Samples per epoch over all processes. A null is one pass over the scenes or, in a
            `MixedDataModule`, as many as the longest sibling needs. A scene's views differ in each pass.
        val_fraction: Share of the scenes set aside for validation; whole scenes, chosen by name and ``seed``.
        p_first: Chance that the input is the scene's first picture rather than a random one.
        mirror: Whether half of the training items are mirrored across y = 0, pictures and cameras.
        hue: Largest turn of the training pictures' hue in either direction, in parts of the circle.
        seed: Decides order, views and augmentation.
        num_workers: Worker processes that read pictures.
        cache_gib: Keep decoded pictures in memory if all of them fit into this many GiB; 0 switches it off.
        points: Points per scene labelled as inside or outside, for `LossWeights.inside`; 0 for none. Labels come
            from the visual hull of all the scene's pictures: have many, and room for them in the cache.
        query: Rows of a shard set to use, as `SyntheticDataModule`.
        order_by: Column of a shard set by which ``limit`` takes the largest.
        limit: Use only so many scenes of each location: the first by ``order_by`` or, without it, in a fixed random
            order of the names, so that smaller sets are part of larger ones.
        view_pool: Only the first so many pictures of each scene are used; null for all.
    """

    def __init__(
        self,
        root: str | dict[str, float],
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
        query: str | None = None,
        order_by: str | None = None,
        limit: int | None = None,
        view_pool: int | None = None,
    ) -> None:
        super().__init__(
            root,
            batch_size,
            samples_per_epoch,
            val_fraction,
            seed,
            num_workers,
            views=views,
            resolution=resolution,
            p_first=p_first,
            mirror=mirror,
            hue=hue,
            cache_gib=cache_gib,
            points=points,
            view_pool=view_pool,
        )
        self.exclude, self.query, self.order_by, self.limit = exclude, query, order_by, limit

    def split_location(self, location: str) -> tuple[Items, Items]:
        """Scenes for training and for validation.

        Raises:
            SceneError, ShardError: if there are no scenes, or none is left.
            UsageError: if the list to exclude cannot be read or matches nothing, which is likely a mistake, or query
                or limit do not fit.
        """
        items = split_scenes(
            location, self.exclude, self.query, self.order_by, self.limit, self.val_fraction, self.seed
        )
        if isinstance(items[0], ShardSet) and not items[0].has_poses:
            raise UsageError(
                f"The shard set {location} holds orbits without cameras of their own; read it with "
                "vfusion3d.SyntheticDataModule."
            )
        return items


def split_scenes(
    location: str,
    exclude: list[str] | str | None,
    query: str | None,
    order_by: str | None,
    limit: int | None,
    val_fraction: float,
    seed: int,
) -> tuple[Items, Items]:
    """The scenes of a folder or a shard set for training and for validation; arguments as `RenderedDataModule`.

    Raises:
        SceneError, ShardError: if there are no scenes, or none is left.
        UsageError: if the list to exclude cannot be read or matches nothing, which is likely a mistake, or query or
            limit do not fit.
    """
    excluded = excluded_names(exclude)
    if is_shard_set(location):
        return ShardSet(location, query, order_by, limit, excluded).split(val_fraction, seed)
    folders = find_scenes(location)
    for name, value in (("query", query), ("order_by", order_by)):
        if value is not None:
            raise UsageError(
                f"Argument `{name}` needs a table, which the scene folders in {location} do not have; make a shard "
                f"set of them with `vfusion3d data pack {location} --output DIR`."
            )
    if excluded and not excluded & {folder.name for folder in folders}:
        raise UsageError(f"None of the {len(excluded)} names in `exclude` is a scene in {location}; check them.")
    folders = [folder for folder in folders if folder.name not in excluded]
    if limit is not None:
        folders = _limited(folders, limit, location)
    order = hash_order([folder.name for folder in folders], seed)
    count = math.ceil(len(folders) * val_fraction)
    validation = {folders[k] for k in order[:count]}
    training = [folder for folder in folders if folder not in validation]
    if not training:
        raise SceneError(f"No scene of {location} is left for training; exclude fewer or lower `val_fraction`.")
    return SceneItems.load(training), SceneItems.load(sorted(validation))


def _limited(folders: list[Path], limit: int, location: str) -> list[Path]:
    """The first folders in the fixed random order of their names, sorted.

    Raises:
        UsageError: if there are fewer.
    """
    if not 1 <= limit <= len(folders):
        raise UsageError(
            f"Argument `limit` must be from 1 to the {len(folders)} scenes of {location}, but got {limit}."
        )
    return sorted(folders[k] for k in hash_order([folder.name for folder in folders])[:limit])
