"""What a run has done so far, on disk.

A run's folder has

- ``items.parquet``: the table of items, in units of a fixed number of rows;
- ``stages/NAME-FINGERPRINT/UNIT-PART.parquet``: what a stage added to a unit's items: ``id``, its columns and
  ``error``. A part is written under a temporary name and renamed, and never changed; further parts hold items that a
  looser condition let in later.

So all that was done is what is there: a run that is started again does what is missing, in any number of processes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vfusion3d.data.query import parse_query
from vfusion3d.engine.plan import Plan
from vfusion3d.engine.stage import ERROR, ID
from vfusion3d.errors import OutputError, UsageError
from vfusion3d.outputs import atomic_file, make_folder

ITEMS = "items.parquet"
STAGES = "stages"


class Store:
    """A run's folder.

    Args:
        folder: Where it is; created if it is not there.
        items: The table of items (`read_items`). A folder that has one takes a table that begins with the same rows.
        unit: Items of a unit: what is done, kept and lost at once.

    Raises:
        OutputError: if the folder cannot be written.
        UsageError: if it holds other items, or units of another size.
    """

    def __init__(self, folder: str | os.PathLike[str], items: pa.Table, unit: int = 64) -> None:
        if unit < 1:
            raise UsageError(f"Argument `unit` must be at least 1, but got {unit}.")
        self.folder, self.unit = make_folder(Path(folder)), unit
        path = self.folder / ITEMS
        if path.exists():
            before = pq.read_table(path)
            if int((before.schema.metadata or {}).get(b"unit", unit)) != unit:
                raise UsageError(f"The run in {folder} has units of another size; keep `unit` as it was.")
            if not before.replace_schema_metadata().equals(items.slice(0, len(before))):
                raise UsageError(
                    f"The run in {folder} was begun with other items; keep those rows and add new ones after them, or "
                    "choose another folder."
                )
        self.items = items
        if not path.exists() or len(before) < len(items):
            _write(path, items.replace_schema_metadata({b"unit": str(unit).encode()}))

    @property
    def units(self) -> int:
        """How many units there are."""
        return -(-len(self.items) // self.unit)

    def unit_items(self, unit: int) -> pa.Table:
        """A unit's rows of the table of items."""
        return self.items.slice(unit * self.unit, self.unit)

    def parts(self, plan: Plan, step: int, unit: int) -> list[Path]:
        """Files of what a step has done of a unit."""
        folder = self.folder / STAGES / f"{plan.steps[step].stage.name}-{plan.fingerprints[step]}"
        return sorted(folder.glob(f"{unit:06d}-*.parquet"))

    def results(self, plan: Plan, step: int, unit: int, columns: Iterable[str] | None = None) -> pa.Table | None:
        """What a step has added to a unit, ``id`` and ``error`` included; None if nothing yet.

        Raises:
            OutputError: if a file cannot be read.
        """
        names = None if columns is None else [ID, *columns, ERROR]
        tables = [_read(path, names) for path in self.parts(plan, step, unit)]
        return pa.concat_tables(tables) if tables else None

    def table(self, plan: Plan, step: int, unit: int, columns: Iterable[str]) -> pa.Table:
        """A unit's items with columns of the items and of the steps before ``step``; null where there is no result."""
        table, wanted = self.unit_items(unit), set(columns)
        table = table.select([name for name in table.column_names if name == ID or name in wanted])
        for earlier, done in enumerate(plan.steps[:step]):
            names = [name for name in done.stage.writes if name in wanted]
            if not names:
                continue
            results = self.results(plan, earlier, unit, names)
            if results is None:
                for name in names:
                    table = table.append_column(name, pa.nulls(len(table), done.stage.writes[name]))
                continue
            place = pc.index_in(table[ID].combine_chunks(), value_set=results[ID].combine_chunks())
            for name in names:
                table = table.append_column(name, results[name].combine_chunks().take(place))
        return table

    def missing(self, plan: Plan, step: int, unit: int) -> pa.Table:
        """The items of a unit that a step has yet to do, with the columns that it reads.

        An item waits while a column that the stage reads is null.
        """
        one = plan.steps[step]
        table = self.table(plan, step, unit, plan.used[step])
        if one.where is not None:
            table = table.filter(parse_query(one.where, table.column_names)[0])
        for name in one.stage.reads:
            table = table.filter(pc.field(name).is_valid())
        done = self.results(plan, step, unit, ())
        return table if done is None else table.filter(~pc.field(ID).isin(done[ID].combine_chunks()))

    def add(self, plan: Plan, step: int, unit: int, results: pa.Table) -> None:
        """Keep what a step did of a unit.

        Raises:
            OutputError: if it cannot be written; nothing is left behind then.
        """
        stage = plan.steps[step].stage
        folder = make_folder(self.folder / STAGES / f"{stage.name}-{plan.fingerprints[step]}")
        part = len(self.parts(plan, step, unit))
        _write(folder / f"{unit:06d}-{part:03d}.parquet", results.select([ID, *stage.writes, ERROR]))


def _read(path: Path, columns: list[str] | None) -> pa.Table:
    try:
        return pq.read_table(path, columns=columns)
    except (pa.ArrowInvalid, OSError) as error:
        raise OutputError(f"The file {path} of an earlier run cannot be read ({error}); remove it.") from error


def _write(path: Path, table: pa.Table) -> None:
    with atomic_file(path) as file:
        pq.write_table(table, file, compression="zstd")
