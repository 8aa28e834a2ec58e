"""Stages that need no models, and what a store holds; imported by the processes that tests start too."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from vfusion3d.engine import ItemError, Plan, Stage, Step, Store, item_seed


def items(count, bad=()):
    return pa.table(
        {"id": [f"i{n}" for n in range(count)], "prompt": ["bad" if n in bad else "a cup" for n in range(count)]}
    )


class Draw(Stage):
    """A number of each item's own; some items fail."""

    name, reads = "draw", ("prompt",)
    writes: ClassVar = {"number": pa.int64()}

    def __init__(self, seed=0):
        super().__init__(seed=seed)
        self.seed, self.seen = seed, []

    def process(self, rows):
        self.seen += [row["id"] for row in rows]
        return [
            ItemError("It is bad.") if row["prompt"] == "bad" else {"number": item_seed(row["id"], self.seed)}
            for row in rows
        ]


class Double(Stage):
    name, reads = "double", ("number",)
    writes: ClassVar = {"twice": pa.float64()}

    def process(self, rows):
        return [{"twice": 2.0 * row["number"]} for row in rows]


class Picture(Stage):
    """Bytes that look random and are the item's own; raises over three items in a hundred."""

    name, reads = "picture", ("number",)
    writes: ClassVar = {"image": pa.binary()}

    def __init__(self, size=64, share=0.03, seconds=0.0):
        super().__init__(size=size, share=share)
        self.size, self.share, self.seconds = size, share, seconds

    def process(self, rows):
        time.sleep(self.seconds * len(rows))
        for row in rows:
            if row["number"] % 10_000 < 10_000 * self.share:
                raise RuntimeError("no memory for it")
        return [{"image": hashlib.shake_128(str(row["number"]).encode()).digest(self.size)} for row in rows]


class Killer(Stage):
    """The process dies over one item, as of a segmentation fault."""

    name, reads = "killer", ("prompt",)
    writes: ClassVar = {"length": pa.int64()}

    def process(self, rows):
        if any(row["prompt"] == "bad" for row in rows):
            os.kill(os.getpid(), signal.SIGKILL)
        return [{"length": len(row["prompt"])} for row in rows]


class Traced(Double):
    """Leaves a file named after its process and, on Ray, its node; takes its time."""

    name = "traced"
    writes: ClassVar = {"traced": pa.float64()}

    def __init__(self, folder, seconds=0.0):
        super().__init__()
        self.folder, self.seconds = folder, seconds

    def load(self):
        import ray

        (Path(self.folder) / f"{ray.get_runtime_context().get_node_id()}-{os.getpid()}").touch()

    def process(self, rows):
        time.sleep(self.seconds * len(rows))
        return [{"traced": row["twice"]} for row in super().process(rows)]


def chain(count, seconds=0.0, size=64):
    """A table and a plan of three stages over it: a failing item, a condition, and a stage that raises."""
    table = items(count, bad=[3])
    steps = [
        Step(Draw(), batch_size=32),
        Step(Double(), where="number > 1000000000000000000", batch_size=32),
        Step(Picture(size, seconds=seconds), batch_size=16),
    ]
    return table, Plan(steps, table.column_names)


def contents(plan, folder):
    """All results of a store, rows of each step's parts in the order of the ids, as they are on disk."""
    store = Store.open(folder)
    found = []
    for step in range(len(plan.steps)):
        tables = [pq.read_table(path) for unit in range(store.units) for path in store.parts(plan, step, unit)]
        found.append(pa.concat_tables(tables).sort_by("id") if tables else None)
    return found
