"""Finished items to a shard set that training reads, and their labels beside it.

Pictures are written once, in tar shards with one table (`ShardWriter`); what stages say of them goes into
``labels-STAGE.parquet``, one file a stage, joined on the key. So a new label rewrites a small table, and a new
threshold is a query of `vfusion3d.SyntheticDataModule`, which rewrites nothing.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image
from tqdm import tqdm

from vfusion3d.cameras import Rig
from vfusion3d.data.query import parse_query
from vfusion3d.data.shard_writer import COLUMNS, Item, ShardWriter
from vfusion3d.data.shards import METADATA_KEY
from vfusion3d.engine.plan import Plan
from vfusion3d.engine.stage import ERROR, ID, Row
from vfusion3d.engine.stages.orbits import row_rig
from vfusion3d.engine.store import Store, chosen
from vfusion3d.errors import UsageError
from vfusion3d.outputs import atomic_file

PIXELS, RIG, SEED = "rgba_frames", "rig", "orbit_seed"
LICENCE = "licence"
"""A row's licence is every statement of the columns of this name and of those that end with it, one a line."""
UNSTATED = "The licence of the given picture was not stated."
_PICTURES = {"file", "image", "first_frame", "frames", PIXELS}  # of the items: made by others
_LABELLED = "elevation"  # a label, of generated orbits
_SCALARS = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_string)


@dataclass
class PackSummary:
    """What `pack` did."""

    items: int
    """Items that the set has now."""
    added: int
    """Those of them that are new."""
    labels: list[str]
    """Names of the label files."""


def pack(
    plan: Plan,
    store: Store,
    output: str | os.PathLike[str],
    where: str | None = None,
    shard_mib: float = 512.0,
    quiet: bool = False,
) -> PackSummary:
    """Write the items that have masked frames into a shard set, and what is known of them beside it.

    Loads no model. A set that was begun gets the items that it lacks; pictures that are there are never written again,
    labels always are.

    Args:
        plan: The stages; ``rgba_frames`` and ``rig`` are columns of one, or of the items.
        store: What they have done.
        output: The set's folder.
        where: Which items are worth their storage, an expression over the columns; all by default. Items that are in
            the set already stay.
        shard_mib: A shard is full at this size.
        quiet: No progress bar.

    Raises:
        UsageError: if there are no masked frames or no rig, items have several rigs, or the folder holds a set of other
            pictures.
        OutputError: if something cannot be written; finished shards stay, and a later run goes on after them.
    """
    columns = store.columns(plan)
    for name, stage in ((PIXELS, "FrameMasks"), (RIG, "ImageToOrbit")):
        if name not in columns:
            raise UsageError(
                f"Packing needs the column {name!r}, but neither a stage of the plan nor the items have it; add "
                f"{stage} to the plan."
            )
    made = plan.fingerprints[_pixel_step(plan)] if PIXELS in plan.owners else None
    writer = ShardWriter(output, _rig(plan, store), shard_mib, labelled=[_LABELLED], made=made)
    before = len(writer.keys)
    with tqdm(total=store.rows, desc="pack", unit="item", file=sys.stderr, disable=quiet) as bar:
        writer.write(_new_items(plan, store, where, writer, bar))
    labels = [_write_labels(plan, store, writer, *group) for group in label_columns(plan, store).items()]
    return PackSummary(len(writer.keys), len(writer.keys) - before, labels)


def label_columns(plan: Plan, store: Store) -> dict[str, list[str]]:
    """Columns that become labels, numbers and texts, by the stage that writes them; those of the items as ``items``."""
    groups: dict[str, list[str]] = {}
    for name, kind in store.columns(plan).items():
        reserved = name in (ID, SEED, ERROR) or name.endswith(LICENCE) or (name in COLUMNS and name != _LABELLED)
        if not reserved and any(is_kind(kind) for is_kind in _SCALARS):
            groups.setdefault(plan.owners.get(name, "items"), []).append(name)
    return groups


def _rows(plan: Plan, store: Store, unit: int, columns: Collection[str]) -> pa.Table:
    return store.table(plan, len(plan.steps), unit, columns)


def _finished(plan: Plan, store: Store, unit: int, columns: Collection[str]) -> pa.Table:
    """A unit's items that have a rig and masked frames, with columns; the frames themselves are not read."""
    table = store.having(plan, unit, PIXELS, {*columns, RIG})
    return table.filter(pc.field(RIG).is_valid())


def _pixel_step(plan: Plan) -> int:
    return next(number for number, step in enumerate(plan.steps) if PIXELS in step.stage.writes)


def _rig(plan: Plan, store: Store) -> Rig:
    """The first finished item's.

    Raises:
        UsageError: if no item is finished.
    """
    for unit in range(store.units):
        for row in _finished(plan, store, unit, ()).select([ID, RIG]).slice(0, 1).to_pylist():
            return row_rig(row)
    raise UsageError(f"No item of the run in {store.folder} has masked frames and a rig yet; let its stages finish.")


def _new_items(plan: Plan, store: Store, where: str | None, writer: ShardWriter, bar: tqdm) -> Iterator[Item]:
    """The finished items that the set lacks."""
    columns = store.columns(plan)
    used = set() if where is None else parse_query(where, columns)[1]
    licences = [name for name in columns if name.endswith(LICENCE)]
    wanted = {*licences, *used, *(columns.keys() & {"prompt", "seed", SEED, "source", "file"})}
    given = bool(_PICTURES & columns.keys() - plan.owners.keys())
    for unit in range(store.units):
        table = _finished(plan, store, unit, wanted)
        table = table.filter(chosen(table, where))
        rows = table.select([name for name in table.column_names if name != PIXELS]).to_pylist()
        new = [row for row in rows if row[ID] not in writer.keys]
        if new:
            pixels = _rows(plan, store, unit, [PIXELS])
            place = {item: number for number, item in enumerate(pixels[ID].to_pylist())}
            for row in new:
                yield _item(row, pixels[PIXELS][place[row[ID]]].as_py(), licences, given, writer.rig)
        bar.update(len(store.unit_items(unit)))


def _item(row: Row, frames: list[bytes], licences: list[str], given: bool, rig: Rig | None) -> Item:
    """A row as an item of the set.

    Raises:
        UsageError: if its rig is another one than the set's.
    """
    if row_rig(row) != rig:
        raise UsageError(
            f"The item {row[ID]!r} is an orbit of {row_rig(row)}, but the others are of {rig}; pack items of one video "
            "model at a time."
        )
    with Image.open(io.BytesIO(frames[0])) as first:
        width, height = first.size
    statements = [line for name in licences for line in (row[name] or "").splitlines() if line.strip()]
    if given and not row.get(LICENCE):
        statements.insert(0, UNSTATED)
    columns = {
        "prompt": row.get("prompt"),
        "seed": row.get(SEED, row.get("seed")),
        "licence": "\n".join(dict.fromkeys(statements)) or None,
        "source": row.get("source", row.get("file")),
    }
    return Item(row[ID], frames, (height, width), columns=columns)


def _write_labels(plan: Plan, store: Store, writer: ShardWriter, stage: str, columns: list[str]) -> str:
    """A stage's columns of the set's items; returns the file's name."""
    keys = pa.array(sorted(writer.keys), pa.string())
    tables = [_rows(plan, store, unit, columns).filter(pc.field(ID).isin(keys)) for unit in range(store.units)]
    table = pa.concat_tables(tables).rename_columns({ID: "key"}).select(["key", *columns])
    names = [step.stage.name for step in plan.steps]
    about = {"stage": stage, "fingerprint": plan.fingerprints[names.index(stage)] if stage in names else None}
    table = table.replace_schema_metadata({METADATA_KEY: json.dumps(about).encode()})
    name = f"labels-{stage}.parquet"
    with atomic_file(Path(writer.folder) / name) as file:
        pq.write_table(table, file, compression="zstd")
    return name
