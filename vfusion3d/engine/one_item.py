"""One item made anew from its row, to look at or to compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vfusion3d.engine.plan import Plan
from vfusion3d.engine.stage import ERROR, ID, Row
from vfusion3d.engine.store import chosen
from vfusion3d.errors import UsageError

ITEM = "item.json"


def regenerate(plan: Plan, items: pa.Table, item: str) -> Row:
    """Make an item anew, as a run does, without a store: all its randomness comes from its id.

    Args:
        plan: The stages.
        items: The table of items.
        item: The item's id.

    Returns:
        The item's columns and those of all steps, null after a step whose condition leaves it out or that failed, and
        ``error``: the stage and why it failed, or None.

    Raises:
        UsageError: if there is no such item.
        Exception: what a stage raises, as it is.
    """
    table = items.filter(pc.equal(items[ID], item))
    if not len(table):
        raise UsageError(f"There is no item {item!r} in the table of items; take an id of its column {ID!r}.")
    failed = None
    for step in plan.steps:
        stage = step.stage
        inputs = table.select([name for name in table.column_names if name in {ID, *stage.reads, *stage.optional}])
        if chosen(table, step.where)[0].as_py() and all(inputs[name].null_count == 0 for name in stage.reads):
            results = stage(inputs)
            reason = results[ERROR][0].as_py()
            failed = failed if reason is None else f"{stage.name}: {reason}"
        else:
            results = pa.table({name: pa.nulls(1, kind) for name, kind in stage.writes.items()})
        for name in stage.writes:
            table = table.append_column(name, results[name])
    return {**table.to_pylist()[0], ERROR: failed}


def write_row(row: Row, folder: Path) -> None:
    """Write a row as files: pictures by their columns' names, the rest as ``item.json``.

    Args:
        row: An item.
        folder: An empty folder.
    """
    from vfusion3d.data.shard_writer import extension

    plain: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, bytes):
            plain[name] = f"{name}.{extension(value)}"
            (folder / plain[name]).write_bytes(value)
        elif isinstance(value, list) and value and isinstance(value[0], bytes):
            (folder / name).mkdir()
            plain[name] = [f"{name}/{number:03d}.{extension(frame)}" for number, frame in enumerate(value)]
            for file, frame in zip(plain[name], value, strict=True):
                (folder / file).write_bytes(frame)
        else:
            plain[name] = value
    (folder / ITEM).write_text(json.dumps(plain, indent=2, default=str))
