from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from vfusion3d.cameras import Rig
from vfusion3d.data.places import Places
from vfusion3d.data.shard_writer import Item, ShardWriter
from vfusion3d.data.shards import ITEMS, ShardSet

LONG = "k" * 120  # a tar header of three blocks, so frames do not lie as predicted


def pack(folder: Path, keys: list[str]) -> pq.ParquetFile:
    """Items of three frames of random length, in shards of a few items."""
    generator = np.random.default_rng(0)
    items = [
        Item(key, [generator.bytes(size) for size in generator.integers(1, 3000, 3)], (8, 8), None, {"elevation": 0.1})
        for key in keys
    ]
    ShardWriter(folder, Rig(2.0, 40.0, frames=3), shard_mib=0.02).write(items)
    return pq.ParquetFile(folder / ITEMS)


@pytest.mark.parametrize("last", ["z", LONG])
def test_places_are_the_tables(tmp_path: Path, last: str) -> None:
    file = pack(tmp_path, [f"item {k}" for k in range(20)] + [last])
    table = file.read()
    whole = Places(file, None)
    assert len(whole.shards) > 2 and (whole._offsets is None) == (last == "z")
    orders = {
        "all": (whole, np.arange(21)),
        "some": (Places(file, np.array([2, 3, 20])), np.array([2, 3, 20])),
        "in another order": (Places(file, np.array([20, 0, 7])), np.array([20, 0, 7])),
        "a mask": (whole.subset(np.arange(21) % 2 == 0), np.arange(0, 21, 2)),
    }
    for places, rows in orders.values():
        assert places.counts.tolist() == [3] * len(rows)
        for item, row in enumerate(rows.tolist()):
            offsets, sizes = places[item]
            assert offsets.tolist() == table["offsets"][row].as_py() and sizes.tolist() == table["sizes"][row].as_py()
            assert places.shards[places.shard[item]] == table["shard"][row].as_py()
        lengths: dict[str, int] = {}
        for row in rows.tolist():
            end = table["offsets"][row].as_py()[-1] + table["sizes"][row].as_py()[-1]
            name = table["shard"][row].as_py()
            lengths[name] = max(end, lengths.get(name, 0))
        assert {name: end for name, end in places.lengths().items() if end} == lengths


def test_pictures_of_both_kinds_are_read(tmp_path: Path) -> None:
    pack(tmp_path, ["a", LONG, "b"])
    opened = ShardSet(str(tmp_path))
    generator = np.random.default_rng(0)
    for item in range(3):
        expected = [generator.bytes(size) for size in generator.integers(1, 3000, 3)]
        assert opened.members(item, (2, 0)) == [expected[2], expected[0]]
    assert [opened.key(item) for item in range(3)] == ["a", LONG, "b"]
