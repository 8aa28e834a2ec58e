"""Shard sets: pictures in tar files, and a Parquet table that says where in them each picture is.

A shard set is a folder, or its address, with

- ``*.tar``: shards in WebDataset's naming, ``KEY.FRAME.webp``, frames as members of their own;
- ``items.parquet``: one row per item with ``key``, ``shard``, ``offsets`` and ``sizes`` (bytes of each frame in the
  shard), ``height`` and ``width`` (pixels), for renders ``poses`` and ``intrinsics`` (numbers of all frames, one after
  another), and columns to choose rows by: ``elevation`` (radians), ``prompt``, ``seed``, ``licence`` (one
  statement a line), ``source``. The file's metadata has the version and the `Rig` of generated orbits;
- ``labels-*.parquet``: columns added later (``quality``, ``elevation``, ``aesthetic``, ...), joined on ``key``;
  pictures are never rewritten.

An item is read by its row: two processes share a shard as well as they share a folder of files.
"""

from __future__ import annotations

import copy
import io
import json
import math
import os
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from PIL import Image

from vfusion3d.alpha import premultiplied_pixels
from vfusion3d.cameras import Cameras, Rig
from vfusion3d.data.places import Places
from vfusion3d.data.query import parse_query
from vfusion3d.data.randomness import hash_order
from vfusion3d.errors import MissingExtraError, ShardError, UsageError

ITEMS = "items.parquet"
LABELS = "labels-*.parquet"
METADATA_KEY = b"vfusion3d"
VERSION = 1
"""Of what a set is; raised when older code could not read it rightly."""
_REQUIRED = ("key", "shard", "offsets", "sizes")
_PLACES = {*_REQUIRED[1:], "poses", "intrinsics"}  # columns that say where pictures and cameras are, not what they show
_OPEN_FILES = 64
_ATTEMPTS = 4  # a connection that breaks once must not end a run of days
_Result = TypeVar("_Result")


class ShardSet:
    """The chosen rows of a shard set; pictures are read on demand, by range.

    Args:
        location: A folder, or an address that fsspec reads: ``https://...``, ``s3://...``, ``memory://...``.
        query: Rows to use, an expression over the columns (see `parse_query`); None for all.
        order_by: Column by which rows are ordered, largest first.
        limit: Use only the first rows of that order or, without ``order_by``, of a fixed random order of the keys.
        exclude: Keys of rows that are not used.
        cameras: Whether all cameras must be known: refuse orbits that have no elevation yet and NaN poses.

    Raises:
        ShardError: naming the file and what is wrong with it.
        UsageError: if query, order or limit do not fit the set.
        MissingExtraError: if the kind of address needs a package that is not installed.
    """

    def __init__(
        self,
        location: str,
        query: str | None = None,
        order_by: str | None = None,
        limit: int | None = None,
        exclude: Collection[str] = (),
        cameras: bool = True,
    ) -> None:
        self.location = str(location).rstrip("/")
        self._files: OrderedDict[int, int] = OrderedDict()
        self._connect()
        tables = self._tables()
        self._rows = self._choose(tables, query, order_by, limit, exclude)
        self._load(tables, self._rows, cameras)
        if cameras:
            self._check_cameras()
        if self.local:
            self._check_shards()

    # -- opening ---------------------------------------------------------------------------------------------
    def _connect(self) -> None:
        """A file system of this process: connections do not survive a fork."""
        try:
            self.fs, self.root = url_to_fs(self.location, skip_instance_cache=True)
        except ImportError as error:
            extra = "s3" if self.location.startswith("s3") else None
            how = f"pip install 'vfusion3d[{extra}]'" if extra else str(error)
            raise MissingExtraError(f"The shard set {self.location} needs a package that is missing: {how}.") from error
        except ValueError as error:
            raise UsageError(f"The shard set {self.location} cannot be opened: {error}.") from error
        self.local = isinstance(self.fs, LocalFileSystem)
        self._process = os.getpid()

    def _reconnect(self) -> None:
        if self._process != os.getpid():  # a worker
            self._connect()

    def _reach(self, name: str, read: Callable[[str], _Result]) -> _Result:
        """What ``read`` makes of a file's full path; addresses are tried several times.

        Raises:
            ShardError: if it cannot be read.
        """
        self._reconnect()
        path = f"{self.root}/{name}"
        attempts = 1 if self.local else _ATTEMPTS
        for attempt in range(attempts):
            try:
                return read(path)
            except FileNotFoundError as error:
                raise ShardError(f"The file {self.location}/{name} does not exist; check the address.") from error
            except (pa.ArrowInvalid, ShardError):
                raise
            except Exception as error:  # every file system has its own; none derive from one class
                if attempt + 1 == attempts:
                    what = str(error).strip().rstrip(".") or type(error).__name__
                    raise ShardError(
                        f"The file {self.location}/{name} cannot be read ({what}); check address and connection."
                    ) from error
                time.sleep(0.5 * 2**attempt)
        raise AssertionError("unreachable")

    def _table(self, name: str) -> pq.ParquetFile:
        """A Parquet file's columns, read on demand; one that came from afar is in memory."""
        try:
            if self.local:
                return self._reach(name, pq.ParquetFile)
            return pq.ParquetFile(pa.BufferReader(self._reach(name, lambda path: self.fs.cat_file(path))))
        except pa.ArrowInvalid as error:
            raise ShardError(f"The file {self.location}/{name} is no complete Parquet file ({error}).") from error

    def _tables(self) -> dict[str, pq.ParquetFile]:
        """The items' table and the labels', by file name.

        Raises:
            ShardError: if this is no shard set or a column is missing.
        """
        if self.local and not os.path.exists(f"{self.root}/{ITEMS}"):
            if not os.path.isdir(self.root):
                raise ShardError(f"The shard set {self.location} does not exist; check the path.")
            raise ShardError(
                f"The folder {self.location} is no shard set: it has no {ITEMS}; if packing was interrupted, run it "
                "again."
            )
        tables = {ITEMS: self._table(ITEMS)}
        for column in _REQUIRED:
            if column not in tables[ITEMS].schema_arrow.names:
                raise ShardError(f"The file {self.location}/{ITEMS} has no column {column!r}; pack the set again.")
        try:
            names = sorted(path.rsplit("/", 1)[-1] for path in self.fs.glob(f"{self.root}/{LABELS}"))
        except Exception:  # a web server that does not list folders has no labels to offer
            names = []
        owner = dict.fromkeys(tables[ITEMS].schema_arrow.names, ITEMS)
        for name in names:
            tables[name] = self._table(name)
            columns = tables[name].schema_arrow.names
            if "key" not in columns:
                raise ShardError(f"The file {self.location}/{name} has no column 'key', so its labels belong nowhere.")
            for column in columns:
                if column == "key":
                    continue
                if column in owner:
                    raise ShardError(
                        f"The column {column!r} is in {owner[column]} and in {name} of {self.location}; remove one."
                    )
                owner[column] = name
        self.columns = [column for column in owner if column not in _PLACES]
        self._owner = owner
        return tables

    def _choose(
        self,
        tables: dict[str, pq.ParquetFile],
        query: str | None,
        order_by: str | None,
        limit: int | None,
        exclude: Collection[str],
    ) -> np.ndarray | None:
        """Numbers of the chosen rows; None for all in the table's order."""
        rows = tables[ITEMS].metadata.num_rows
        if rows == 0:
            raise ShardError(f"The shard set {self.location} is empty; pack something into it.")
        if query is None and order_by is None and limit is None and not exclude:
            return None
        if limit is not None and limit < 1:
            raise UsageError(f"Argument `limit` must be at least 1, but got {limit}.")
        expression, used = parse_query(query, self.columns) if query is not None else (None, set())
        if order_by is not None:
            if order_by not in self.columns:
                raise UsageError(
                    f"Argument `order_by` names the column {order_by!r}, which {self.location} does not have; there "
                    f"are {', '.join(sorted(self.columns))}."
                )
            used.add(order_by)
        table = self._attributes(tables, used | {"key"})
        table = table.append_column("__row__", pa.array(np.arange(rows)))
        if exclude:
            table = table.filter(~pc.field("key").isin(list(exclude)))
            if table.num_rows == rows:
                raise UsageError(
                    f"None of the {len(exclude)} names in `exclude` is an item of {self.location}; check them."
                )
            if table.num_rows == 0:
                raise ShardError(f"No item of {self.location} is left for training; exclude fewer.")
        if expression is not None:
            try:
                table = table.filter(expression)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
                raise UsageError(
                    f"The query {query!r} does not fit the columns of {self.location} ({error})."
                ) from error
            if table.num_rows == 0:
                raise UsageError(
                    f"The query {query!r} chooses none of the {rows} rows of {self.location}; loosen it or look at the "
                    f"columns with `vfusion3d data inspect {self.location}`."
                )
        if limit is not None and limit > table.num_rows:
            raise UsageError(
                f"Argument `limit` asks for {limit} items, but {self.location} has only {table.num_rows}"
                f"{' that fit the query' if query else ''}; lower it."
            )
        order = np.arange(table.num_rows)
        if limit is not None or order_by is not None:
            order = hash_order(_texts(table["key"]))
        if order_by is not None:
            values = table[order_by].take(pa.array(order))
            by = pc.array_sort_indices(values.combine_chunks(), order="descending", null_placement="at_end")
            order = order[by.to_numpy()]
        return table["__row__"].to_numpy()[order[:limit]]

    def _attributes(self, tables: dict[str, pq.ParquetFile], columns: set[str]) -> pa.Table:
        """Columns of the items' and the labels' tables, in the items' order; null where an item has no label."""
        mine = {column for column in columns if self._owner[column] == ITEMS}
        if mine < columns:  # labels are joined on it
            mine.add("key")
        table = tables[ITEMS].read(columns=sorted(mine))
        for name, file in tables.items():
            wanted = sorted(column for column in columns if self._owner[column] == name)
            if name == ITEMS or not wanted:
                continue
            labels = file.read(columns=["key", *wanted])
            keys = labels["key"].combine_chunks()
            if len(pc.unique(keys)) < len(keys):
                raise ShardError(f"The file {self.location}/{name} has a key twice; keep one row per item.")
            place = pc.index_in(table["key"].cast(keys.type), value_set=keys)
            for column in wanted:
                table = table.append_column(column, labels[column].combine_chunks().take(place.combine_chunks()))
        return table

    def _load(self, tables: dict[str, pq.ParquetFile], chosen: np.ndarray | None, cameras: bool) -> None:
        """Keep of the chosen rows what reading needs, as arrays rather than millions of objects."""
        file = tables[ITEMS]
        names = set(file.schema_arrow.names)
        self.rig = _rig(file.schema_arrow, f"{self.location}/{ITEMS}")
        self.has_poses = {"poses", "intrinsics"} <= names

        def column(name: str) -> pa.Array:
            array = file.read(columns=[name])[name]
            array = array if chosen is None else array.take(pa.array(chosen))
            if array.null_count:
                raise ShardError(f"The column {name!r} of {self.location}/{ITEMS} has rows without a value.")
            return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array

        try:
            self.places = Places(file, chosen)
        except ValueError as error:
            raise ShardError(f"The table {self.location}/{ITEMS} cannot be used: {error}.") from error
        self._poses = self._intrinsics = None
        if self.has_poses:
            for name, numbers in (("poses", 12), ("intrinsics", 4)):
                ends, values = _ragged(column(name), np.float32)
                if not np.array_equal(ends, self.places.first * numbers):
                    raise ShardError(
                        f"The column {name!r} of {self.location}/{ITEMS} must hold {numbers} numbers per frame."
                    )
                setattr(self, f"_{name}", values.reshape(-1, numbers))
        self._elevation: np.ndarray | None = None
        labelled = self.rig is not None and "elevation" in self._owner
        if not self.has_poses and (cameras or labelled):
            if not labelled:
                lacks = "rig in its metadata" if self.rig is None else "column 'elevation'"
                raise ShardError(
                    f"The file {self.location}/{ITEMS} has neither poses nor a {lacks}, so its cameras are unknown; "
                    "pack the set again."
                )
            elevation = self._attributes(tables, {"elevation"})["elevation"]
            elevation = elevation if chosen is None else elevation.take(pa.array(chosen))
            self._elevation = elevation.to_numpy().astype(np.float32)
        self.size: tuple[int, int] | None = None
        """Height and width of all pictures; None if they differ."""
        if {"height", "width"} <= names:
            sizes = [pc.min_max(column(side)).as_py() for side in ("height", "width")]
            if all(side["min"] == side["max"] for side in sizes):
                self.size = (sizes[0]["min"], sizes[1]["min"])

    def _check_cameras(self) -> None:
        """Find what would end a run of days in its middle.

        Raises:
            ShardError: naming an item with NaN poses, without an elevation or with frames missing.
        """
        for values, what in ((self._poses, "poses"), (self._intrinsics, "intrinsics")):
            if values is not None:
                bad = ~np.isfinite(values).all(1)
                if bad.any():
                    item = int(np.searchsorted(self.places.first, bad.argmax(), side="right")) - 1
                    raise ShardError(
                        f"The {what} of item {self.key(item)!r} in {self.location} contain NaN or infinite numbers; "
                        "exclude it or pack the set again."
                    )
        if self._elevation is not None:
            assert self.rig is not None
            unknown = int((~np.isfinite(self._elevation)).sum())
            if unknown:
                raise ShardError(
                    f"{unknown} of the {len(self)} chosen items of {self.location} have no elevation, so their cameras "
                    'are unknown; choose the others with the query "elevation is not null".'
                )
            other = self.counts != self.rig.frames
            if other.any():
                item = int(other.argmax())
                raise ShardError(
                    f"The item {self.key(item)!r} in {self.location} has {self.counts[item]} frames, but the rig "
                    f"{self.rig.frames}; its cameras are unknown."
                )

    def _check_shards(self) -> None:
        """See that local shards are as long as the table says.

        Raises:
            ShardError: naming one that is missing or truncated.
        """
        for shard, end in self.places.lengths().items():
            if end:
                self._reach(shard, lambda path, end=end: _require_length(path, end))  # type: ignore[misc]

    def split(self, fraction: float, seed: int) -> tuple[ShardSet, ShardSet]:
        """The set without, and with only, the given share of its items; a key alone decides which first.

        Args:
            fraction: In [0, 1); rounded up to whole items.
            seed: Which items.

        Raises:
            ShardError: if none is left for the first.
        """
        held = np.zeros(len(self), bool)
        if fraction:
            held[hash_order(_texts(self.keys()), seed)[: math.ceil(len(self) * fraction)]] = True
        if held.all():
            raise ShardError(f"No item of {self.location} is left for training; lower `val_fraction`.")
        return self._subset(~held) if held.any() else self, self._subset(held)

    def _subset(self, wanted: np.ndarray) -> ShardSet:
        """The items that a mask chooses."""
        part = copy.copy(self)
        part._files = OrderedDict()
        part._rows = np.flatnonzero(wanted) if self._rows is None else self._rows[wanted]
        part.places = self.places.subset(wanted)
        if self._poses is not None and self._intrinsics is not None:
            frames = np.repeat(wanted, self.counts)
            part._poses, part._intrinsics = self._poses[frames], self._intrinsics[frames]
        if self._elevation is not None:
            part._elevation = self._elevation[wanted]
        return part

    def attributes(self) -> pa.Table:
        """The items' columns, labels included, one row per item."""
        table = self._attributes(self._tables(), set(self.columns))
        return table if self._rows is None else table.take(pa.array(self._rows))

    def licences(self) -> Counter[str | None]:
        """What the items say of their licences, and how many of them; read group by group: millions are not kept."""
        file, counts = self._table(ITEMS), Counter[str | None]()
        wanted = np.ones(file.metadata.num_rows, bool)
        if self._rows is not None:
            wanted[:] = False
            wanted[self._rows] = True
        if "licence" not in file.schema_arrow.names:
            return Counter({None: int(wanted.sum())})
        start = 0
        for group in range(file.num_row_groups):
            column = file.read_row_group(group, columns=["licence"])["licence"]
            column, start = column.filter(pa.array(wanted[start : start + len(column)])), start + len(column)
            counts.update({row["values"]: row["counts"] for row in column.value_counts().to_pylist()})
        return counts

    # -- reading ---------------------------------------------------------------------------------------------
    def __len__(self) -> int:
        return len(self.places)

    @property
    def counts(self) -> np.ndarray:
        """Frames of each item, int64 ``[N]``."""
        return self.places.counts

    def keys(self) -> pa.ChunkedArray:
        """The items' keys, read anew: millions of them are not kept."""
        keys = self._table(ITEMS).read(columns=["key"])["key"]
        return keys if self._rows is None else keys.take(pa.array(self._rows))

    def key(self, item: int) -> str:
        """An item's key, read from the table."""
        file, row = self._table(ITEMS), item if self._rows is None else int(self._rows[item])
        for group in range(file.num_row_groups):
            if row < (count := file.metadata.row_group(group).num_rows):
                return str(file.read_row_group(group, columns=["key"])["key"][row].as_py())
            row -= count
        raise IndexError(item)

    def name(self, item: int) -> str:
        """An item in words."""
        return f"item {self.key(item)!r} of {self.location}"

    def cameras(self, item: int) -> Cameras:
        """An item's cameras: those of its renders, or the rig's at its elevation."""
        if self._poses is not None and self._intrinsics is not None:
            rows = slice(self.places.first[item], self.places.first[item + 1])
            poses = torch.from_numpy(self._poses[rows].copy()).unflatten(-1, (3, 4))
            return Cameras(poses, torch.from_numpy(self._intrinsics[rows].copy()))
        assert self.rig is not None and self._elevation is not None
        return self.rig.cameras(float(self._elevation[item]))

    def members(self, item: int, frames: Sequence[int]) -> list[bytes]:
        """The files of some frames, as they are in the shard.

        Raises:
            ShardError: if the shard is missing, cannot be reached, or ends before.
        """
        offsets, lengths = self.places[item]
        starts, sizes = offsets[list(frames)].tolist(), lengths[list(frames)].tolist()
        shard = int(self.places.shard[item])
        name = self.places.shards[shard]
        self._reconnect()
        if self.local:
            file = self._file(shard)
            contents = [os.pread(file, size, start) for start, size in zip(starts, sizes, strict=True)]
        else:
            ends = [start + size for start, size in zip(starts, sizes, strict=True)]
            contents = self._reach(
                name, lambda path: self.fs.cat_ranges([path] * len(starts), starts, ends, on_error="raise")
            )
        for frame, content, size in zip(frames, contents, sizes, strict=True):
            if len(content) != size:
                raise ShardError(
                    f"The shard {self.location}/{name} is truncated: it ends before frame {frame} of item "
                    f"{self.key(item)!r}; fetch or pack it again."
                )
        return contents

    def pixels(self, item: int, frames: Sequence[int]) -> list[np.ndarray]:
        """Pictures of some frames: uint8 ``[H, W, 4]`` each, RGBA with premultiplied alpha.

        Raises:
            ShardError: as `pictures`.
        """
        return [premultiplied_pixels(picture) for picture in self.pictures(item, frames)]

    def pictures(self, item: int, frames: Sequence[int]) -> list[Image.Image]:
        """Pictures of some frames as they were packed.

        Raises:
            ShardError: as `members`, or if a member is no picture.
        """
        pictures: list[Image.Image] = []
        for frame, content in zip(frames, self.members(item, frames), strict=True):
            try:
                picture = Image.open(io.BytesIO(content))
                picture.load()
                pictures.append(picture)
            except (OSError, ValueError, SyntaxError) as error:
                shard = self.places.shards[self.places.shard[item]]
                raise ShardError(
                    f"Frame {frame} of item {self.key(item)!r} in {self.location}/{shard} "
                    f"cannot be decoded ({str(error).split(' <')[0]}); pack it again or exclude it."
                ) from error
        return pictures

    def _file(self, shard: int) -> int:
        """A shard's file descriptor; the least recently used are closed."""
        if shard in self._files:
            self._files.move_to_end(shard)
            return self._files[shard]
        if len(self._files) >= _OPEN_FILES:
            os.close(self._files.popitem(last=False)[1])
        self._files[shard] = self._reach(self.places.shards[shard], lambda path: os.open(path, os.O_RDONLY))
        return self._files[shard]

    def __getstate__(self) -> dict[str, Any]:
        """Without what belongs to a process: a spawned worker opens its own."""
        return {**self.__dict__, "_files": OrderedDict(), "fs": None, "_process": None}

    def __del__(self) -> None:
        for file in self.__dict__.get("_files", {}).values():
            os.close(file)


def is_shard_set(location: str) -> bool:
    """Whether a location is an address, or a folder with a shard set's table."""
    return "://" in location or os.path.exists(os.path.join(location, ITEMS))


def metadata(rig: Rig | None, made: str | None = None) -> dict[bytes, bytes]:
    """What a table of items says besides its rows: the version, the rig and, if known, what made the pictures."""
    content = {"version": VERSION, "rig": None if rig is None else asdict(rig), **({"made": made} if made else {})}
    return {METADATA_KEY: json.dumps(content).encode()}


def _rig(schema: pa.Schema, name: str) -> Rig | None:
    """The rig that a table names; None also in one that another program wrote.

    Raises:
        ShardError: if the set is of another version, or the rig cannot be used.
    """
    ours = (schema.metadata or {}).get(METADATA_KEY)
    if ours is None:
        return None
    try:
        content = json.loads(ours)
        version, rig = content.get("version"), content.get("rig")
        if version != VERSION:
            raise ShardError(
                f"The file {name} is of a shard set of version {version}, but this vfusion3d reads version {VERSION}; "
                "pack the set again."
            )
        return None if rig is None else Rig(**rig)
    except ShardError:
        raise
    except (ValueError, TypeError, AttributeError) as error:
        raise ShardError(f"The rig in the metadata of {name} cannot be used ({error}).") from error


def _ragged(column: pa.Array, kind: type[np.generic]) -> tuple[np.ndarray, np.ndarray]:
    """A list column as the start of each row, ``[N + 1]``, and the values."""
    starts = column.offsets.to_numpy().astype(np.int64)
    values = column.flatten().to_numpy(zero_copy_only=False)
    return starts - starts[0], values.astype(kind, copy=False)


def _texts(column: pa.ChunkedArray) -> Iterator[str]:
    """A column's texts, a part at a time as Python's."""
    for start in range(0, len(column), 1 << 14):
        yield from column.slice(start, 1 << 14).to_pylist()


def _require_length(path: str, end: int) -> None:
    length = os.stat(path).st_size
    if length < end:
        raise ShardError(
            f"The shard {path} is truncated: it has {length} bytes, but its items need {end}; fetch or pack it again."
        )
