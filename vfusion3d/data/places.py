"""Where in a shard set's tar files each frame is, for millions of items in little memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_BLOCK = 512  # a tar member is a header of one block and whole blocks of content


class Places:
    """Shard, start and size of each frame of the chosen rows of a table of items.

    Frames that follow one another in their shard as tar members do need no offset of their own: that of an item's first
    frame and all sizes say where they are, a third of the bytes. That is checked, and all offsets are kept where it
    does not hold.

    Args:
        file: The table.
        chosen: Numbers of its rows; None for all in the table's order.

    Raises:
        ValueError: if a row has no value, or its offsets and sizes differ in number.
    """

    def __init__(self, file: pq.ParquetFile, chosen: np.ndarray | None) -> None:
        by_row = chosen is None or bool((np.diff(chosen) > 0).all())
        rows = chosen if chosen is None or by_row else np.sort(chosen)
        self.shards: list[str] = []
        """File names of the shards that have chosen rows."""
        if not self._read(file, rows, predictable=True):
            self._read(file, rows, predictable=False)
        pa.default_memory_pool().release_unused()
        if chosen is not None and not by_row:
            self._take(np.argsort(np.argsort(chosen)))

    def _read(self, file: pq.ParquetFile, rows: np.ndarray | None, predictable: bool) -> bool:
        """Read a part of the table at a time; False if frames do not lie as predicted."""
        numbers: dict[str, int] = {}
        shard, counts, starts, sizes, offsets = [], [], [], [], []
        first = 0
        for batch in file.iter_batches(1 << 14, columns=["shard", "offsets", "sizes"]):
            part = batch
            if rows is not None:
                low, high = np.searchsorted(rows, [first, first + len(batch)])
                part = batch.take(pa.array(rows[low:high] - first))
            first += len(batch)
            if not len(part):
                continue
            for name in ("shard", "offsets", "sizes"):
                if part[name].null_count:
                    raise ValueError(f"the column {name!r} has rows without a value")
            ends, size = _ragged(part["sizes"])
            other, offset = _ragged(part["offsets"])
            if not np.array_equal(ends, other):
                raise ValueError("the columns 'offsets' and 'sizes' differ in their lengths")
            names = part["shard"]
            names = names if isinstance(names.type, pa.DictionaryType) else names.dictionary_encode()
            known = [numbers.setdefault(name, len(numbers)) for name in names.dictionary.to_pylist()]
            shard.append(np.array(known, np.int32)[names.indices.to_numpy(zero_copy_only=False)])
            counts.append(np.diff(ends).astype(np.int32))
            if not counts[-1].all():
                raise ValueError("the column 'sizes' has rows without frames")
            start, steps = offset[ends[:-1]], np.cumsum(_steps(size)) - _steps(size)
            if predictable:
                expected = np.repeat(start - steps[ends[:-1]], counts[-1]) + steps
                if not np.array_equal(expected, offset):
                    return False
                starts.append(start)
            else:
                offsets.append(offset)
            sizes.append(size.astype(np.uint32))
        self.shards = list(numbers)
        self.shard = np.concatenate(shard)
        """Number of each item's shard, int32 ``[N]``."""
        self.first = np.concatenate([[0], np.cumsum(np.concatenate(counts), dtype=np.int64)])
        """Number of each item's first frame, int64 ``[N + 1]``."""
        self._starts = np.concatenate(starts) if predictable else None
        self._offsets = None if predictable else np.concatenate(offsets)
        self.sizes = np.concatenate(sizes)
        """Bytes of each frame, uint32."""
        return True

    def __len__(self) -> int:
        return len(self.shard)

    @property
    def counts(self) -> np.ndarray:
        """Frames of each item, int64 ``[N]``."""
        return np.diff(self.first)

    def __getitem__(self, item: int) -> tuple[np.ndarray, np.ndarray]:
        """Offsets in its shard, and sizes, of an item's frames, int64."""
        frames = slice(self.first[item], self.first[item + 1])
        sizes = self.sizes[frames].astype(np.int64)
        if self._starts is None:
            assert self._offsets is not None
            return self._offsets[frames], sizes
        steps = _steps(sizes)
        return self._starts[item] + np.cumsum(steps) - steps, sizes

    def lengths(self) -> dict[str, int]:
        """The bytes that each shard must have at least, by name."""
        ends = np.zeros(len(self.shards), np.int64)
        for low in range(0, len(self), 1 << 16):
            items = slice(low, min(low + (1 << 16), len(self)))
            first = self.first[low : items.stop + 1]
            sizes = self.sizes[first[0] : first[-1]].astype(np.int64)
            if self._starts is None:
                assert self._offsets is not None
                frames = self._offsets[first[0] : first[-1]] + sizes
                np.maximum.at(ends, np.repeat(self.shard[items], np.diff(first)), frames)
            else:  # the last frame's end
                whole = np.add.reduceat(_steps(sizes), first[:-1] - first[0])
                last = sizes[first[1:] - 1 - first[0]]
                np.maximum.at(ends, self.shard[items], self._starts[items] + whole - _steps(last) + last)
        return dict(zip(self.shards, ends.tolist(), strict=True))

    def subset(self, items: np.ndarray) -> Places:
        """The places of some items, numbers or a mask."""
        part = object.__new__(Places)
        part.__dict__.update(self.__dict__)
        part._take(np.flatnonzero(items) if items.dtype == bool else items)
        return part

    def _take(self, items: np.ndarray) -> None:
        counts = self.counts[items]
        frames = frame_numbers(self.first[items], counts)
        self.sizes = self.sizes[frames]
        self._offsets = None if self._offsets is None else self._offsets[frames]
        self._starts = None if self._starts is None else self._starts[items]
        self.shard = self.shard[items]
        self.first = np.concatenate([[0], np.cumsum(counts)])


def frame_numbers(first: np.ndarray, counts: Sequence[int] | np.ndarray) -> np.ndarray:
    """The numbers of frames of items one after another: ``counts`` of each from ``first`` on."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(first - ends + counts, counts)


def _steps(sizes: np.ndarray) -> np.ndarray:
    """From each member's content to the next one's, in bytes."""
    return -(-sizes // _BLOCK) * _BLOCK + _BLOCK


def _ragged(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """A list column as the start of each row, ``[N + 1]``, and the values, int64."""
    starts = column.offsets.to_numpy().astype(np.int64)
    return starts - starts[0], column.flatten().to_numpy(zero_copy_only=False).astype(np.int64)
