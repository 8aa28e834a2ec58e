"""Training data from a video model's orbits, in shards."""

from __future__ import annotations

from vfusion3d.data.shards import ShardSet
from vfusion3d.data.views_dataset import Items
from vfusion3d.data.views_module import ViewsDataModule


class SyntheticDataModule(ViewsDataModule):
    """Random frames of generated orbits, rows of shard sets chosen by a query.

    Cameras are what such videos can claim: the rig's that the shard set names (distance, field of view, direction,
    number of frames), at the elevation that each was labelled with. A set whose items have cameras of their own keeps
    those.

    Args:
        root: A shard set, as `vfusion3d data pack` writes it: a folder, or an address that fsspec reads
            (``https://...``, ``s3://...``); or a mapping from such to their shares of the samples, in any unit.
        query: Rows to use, an expression over the columns, for example ``quality > 0.5 and elevation is not null``
            (see `vfusion3d.data.query.parse_query`); null for all.
        order_by: Column by which ``limit`` takes the largest, for example ``aesthetic``.
        limit: Use only so many rows of each location: the first by ``order_by`` or, without it, in a fixed random order
            of the keys, so that smaller sets are part of larger ones.
        batch_size: Orbits per step and process.
        views: Frames per orbit, distinct; the first is the model's input and all are supervised.
        resolution: Height and width of the pictures.
        samples_per_epoch: Samples per epoch over all processes. A null is one pass over the rows or, in a
            `MixedDataModule`, as many as the longest sibling needs. An orbit's frames differ in each pass.
        val_fraction: Share of each location's rows set aside for validation, chosen by key and ``seed``.
        p_first: Chance that the input is frame 0, which the video was made from, rather than a random one.
        mirror: Whether half of the training items are mirrored across y = 0, pictures and cameras.
        hue: Largest turn of the training pictures' hue in either direction, in parts of the circle.
        seed: Decides order, frames and augmentation.
        num_workers: Worker processes that read pictures.
        cache_gib: Keep decoded pictures in memory if all of them fit into this many GiB; 0 switches it off.
    """

    def __init__(
        self,
        root: str | dict[str, float],
        query: str | None = None,
        order_by: str | None = None,
        limit: int | None = None,
        batch_size: int = 8,
        views: int = 4,
        resolution: int = 384,
        samples_per_epoch: int | None = None,
        val_fraction: float = 0.0,
        p_first: float = 0.0,
        mirror: bool = False,
        hue: float = 0.0,
        seed: int = 0,
        num_workers: int = 0,
        cache_gib: float = 2.0,
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
        )
        self.query, self.order_by, self.limit = query, order_by, limit

    def split_location(self, location: str) -> tuple[Items, Items]:
        """Rows for training and for validation.

        Raises:
            ShardError: naming the file that cannot be used.
            UsageError: if query, order or limit do not fit the set.
        """
        chosen = ShardSet(location, self.query, self.order_by, self.limit)
        return chosen.split(self.val_fraction, self.seed)
