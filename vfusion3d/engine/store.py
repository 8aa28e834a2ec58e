"""What a run has done so far, on disk.

A run's folder has

- ``items.parquet``: the table of items, in units of a fixed number of rows;
- ``stages/NAME-FINGERPRINT/UNIT-PART.parquet``: what a stage added to a unit's items: ``id``, its columns and
  ``error``. A part appears whole, and never changes; further parts hold items that a looser condition or a longer table
  let in later, or failed ones that were tried again, whose last result counts;
- beside them ``units.jsonl``, a line per unit (`vfusion3d.engine.journal`), and ``.claims``, locked while a process
  works on a unit.

So all that was done is what is there: a run that is started again does what is missing, in any number of processes, on
any number of machines that see the folder. What counts as done is a matter of the plan alone: results of items that
its conditions leave out stay on disk and are not seen.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import acero

from vfusion3d.data.query import parse_query
from vfusion3d.engine.plan import Plan
from vfusion3d.engine.stage import ERROR, ID
from vfusion3d.errors import OutputError, UsageError
from vfusion3d.outputs import atomic_file, make_folder

ITEMS = "items.parquet"
STAGES = "stages"
_CLAIMS = ".claims"
_GROUP = 1 << 16  # rows of the table of items that are read at once
_PART = re.compile(r"\.?(\d+)-(\d+)\.parquet(\.\d+\.partial)?$")


@dataclass
class UnitState:
    """Where a step stands with a unit."""

    todo: pa.Table
    """Items that are missing, with the columns that the stage reads."""
    done: int
    errors: dict[str, str]
    """Why, by id."""
    skipped: int
    """Items that the condition leaves out, or that lack an input because an earlier stage failed or skipped them."""
    parts: list[int]
    """Numbers of the files that this was read from."""


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
        path = make_folder(Path(folder)) / ITEMS
        before = None
        if path.exists():
            before = _read(path, None)
            if int((before.schema.metadata or {}).get(b"unit", unit)) != unit:
                raise UsageError(f"The run in {folder} has units of another size; keep `unit` as it was.")
            if not before.replace_schema_metadata().equals(items.slice(0, len(before))):
                raise UsageError(
                    f"The run in {folder} was begun with other items; keep those rows and add new ones after them, or "
                    "choose another folder."
                )
        if before is None or len(before) < len(items):
            with atomic_file(path) as file:
                table = items.replace_schema_metadata({b"unit": str(unit).encode()})
                pq.write_table(table, file, compression="zstd", row_group_size=_group_rows(unit))
        self._open(Path(folder), unit, len(items), items)

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Store:
        """The store in a folder that has one; the table of items stays on disk until it is needed.

        Raises:
            UsageError: if there is none.
        """
        path = Path(folder) / ITEMS
        if not path.is_file():
            raise UsageError(f"The folder {folder} holds no run: there is no {ITEMS}.")
        about = pq.read_metadata(path)
        store = cls.__new__(cls)
        store._open(Path(folder), int((about.metadata or {}).get(b"unit", 64)), about.num_rows)
        return store

    def _open(self, folder: Path, unit: int, rows: int, items: pa.Table | None = None) -> None:
        self.folder, self.unit, self.rows, self._items = folder, unit, rows, items
        self._group: tuple[int, pa.Table] | None = None
        self._listings: dict[str, dict[int, list[int]]] = {}

    # -- items ---------------------------------------------------------------------------------------------------
    @property
    def items(self) -> pa.Table:
        """The table of items."""
        if self._items is None:
            self._items = _read(self.folder / ITEMS, None).replace_schema_metadata()
        return self._items

    @property
    def units(self) -> int:
        """How many units there are."""
        return -(-self.rows // self.unit)

    def unit_items(self, unit: int) -> pa.Table:
        """A unit's rows of the table of items."""
        start = unit * self.unit
        if self._items is not None:
            return self._items.slice(start, self.unit)
        rows = _group_rows(self.unit)
        group = start // rows
        if self._group is None or self._group[0] != group:
            table = pq.ParquetFile(self.folder / ITEMS).read_row_group(group).replace_schema_metadata()
            self._group = group, table
        return self._group[1].slice(start - group * rows, self.unit)

    # -- results -------------------------------------------------------------------------------------------------
    def step_folder(self, plan: Plan, step: int) -> Path:
        """Where a step's results are, if there are any."""
        return self.folder / STAGES / plan.folder(step)

    def parts(self, plan: Plan, step: int, unit: int) -> list[Path]:
        """Files of what a step has done of a unit, in the order they were made."""
        folder = self.step_folder(plan, step)
        return [_part(folder, unit, number) for number in self._numbers(folder, unit)]

    def _numbers(self, folder: Path, unit: int) -> list[int]:
        """Numbers of a unit's parts: from a listing of the folder, and what other processes have added since."""
        if folder.name not in self._listings:
            self._listings[folder.name] = _list_parts(folder)
        numbers = self._listings[folder.name].setdefault(unit, [])
        while _part(folder, unit, numbers[-1] + 1 if numbers else 0).exists():
            numbers.append(numbers[-1] + 1 if numbers else 0)
        return numbers

    def results(self, plan: Plan, step: int, unit: int, columns: Iterable[str] | None = None) -> pa.Table | None:
        """What a step has added to a unit, ``id`` and ``error`` included; None if nothing yet.

        Items that the conditions leave out are among them; `table` is without.

        Raises:
            OutputError: if a file cannot be read.
        """
        names = None if columns is None else [ID, *columns, ERROR]
        tables = [_read(path, names) for path in self.parts(plan, step, unit)]
        if len(tables) < 2:
            return tables[0] if tables else None
        table = pa.concat_tables(tables).combine_chunks()
        last = {item: place for place, item in enumerate(table[ID].to_pylist())}
        return table if len(last) == len(table) else table.take(sorted(last.values()))

    def table(self, plan: Plan, step: int, unit: int, columns: Iterable[str]) -> pa.Table:
        """A unit's items with columns of the items and of the steps before ``step``; null where there is no result."""
        wanted = {ID, *columns}
        table, _ = self._view(plan, step, unit, wanted, ())
        return table.select([name for name in table.column_names if name in wanted])

    def columns(self, plan: Plan) -> dict[str, pa.DataType]:
        """All columns: those of the items, then of the stages in order."""
        columns = {column.name: column.type for column in self.unit_items(0).schema}
        for step in plan.steps:
            columns.update(step.stage.writes)
        return columns

    def having(self, plan: Plan, unit: int, column: str, columns: Iterable[str] = ()) -> pa.Table:
        """A unit's items that have a value of ``column``, with other columns; no stage's pictures are read for it."""
        end, wanted = len(plan.steps), {ID, *columns}
        if column not in plan.owners:
            table = self.table(plan, end, unit, {column, *wanted})
            kept = table[column].is_valid()
        else:
            table, valid = self._view(plan, end, unit, wanted, [plan.owners[column]])
            kept = valid[plan.owners[column]]
        return table.select([name for name in table.column_names if name in wanted]).filter(kept)

    def _view(
        self, plan: Plan, step: int, unit: int, columns: Collection[str], owners: Collection[str]
    ) -> tuple[pa.Table, dict[str, pa.Array]]:
        """A unit's items with columns, and which of them each of the stages concerned has done under this plan."""
        sources = plan.sources(step, columns, owners)
        wanted = {ID, *columns}.union(*(plan.conditions[source.step] for source in sources))
        table = self.unit_items(unit)
        table = table.select([name for name in table.column_names if name in wanted])
        ids = table[ID].combine_chunks()
        valid: dict[str, pa.Array] = {}
        for source in sources:
            one = plan.steps[source.step]
            results = self.results(plan, source.step, unit, source.columns)
            if results is None:
                valid[one.stage.name] = pa.array([False] * len(table))
                for name in source.columns:
                    table = table.append_column(name, pa.nulls(len(table), one.stage.writes[name]))
                continue
            place = pc.index_in(ids, value_set=results[ID].combine_chunks())
            sound = pc.and_(place.is_valid(), results[ERROR].combine_chunks().take(place).is_null())
            for name in one.stage.reads:
                if name in plan.owners:
                    sound = pc.and_(sound, valid[plan.owners[name]])
            sound = pc.and_(sound, chosen(table, one.where))
            valid[one.stage.name] = sound
            place = pc.if_else(sound, place, None)
            for name in source.columns:
                table = table.append_column(name, results[name].combine_chunks().take(place))
        return table, valid

    # -- work ----------------------------------------------------------------------------------------------------
    def look(self, plan: Plan, step: int, unit: int, retry_failed: bool = False) -> UnitState:
        """Where a step stands with a unit.

        An item waits while a column that the stage reads is null.

        Args:
            plan: The stages.
            step: Which of them.
            unit: Which unit.
            retry_failed: Items that failed are missing too.
        """
        stage = plan.steps[step].stage
        parts = list(self._numbers(self.step_folder(plan, step), unit))
        owners = [plan.owners[name] for name in stage.reads if name in plan.owners]
        table, valid = self._view(plan, step, unit, plan.conditions[step], owners)
        choice = chosen(table, plan.steps[step].where)
        for owner in owners:
            choice = pc.and_(choice, valid[owner])
        done, errors, todo = 0, {}, choice
        results = self.results(plan, step, unit, ())
        if results is not None:
            place = pc.index_in(table[ID].combine_chunks(), value_set=results[ID].combine_chunks())
            reasons = results[ERROR].combine_chunks().take(place)
            here = pc.and_(choice, place.is_valid())
            todo = pc.and_(choice, place.is_null())
            failed = pc.and_(here, reasons.is_valid())
            done = pc.sum(pc.and_(here, reasons.is_null())).as_py() or 0
            if retry_failed:
                todo = pc.or_(todo, failed)
            else:
                errors = dict(
                    zip(table[ID].filter(failed).to_pylist(), reasons.filter(failed).to_pylist(), strict=True)
                )
        missing = (
            self.table(plan, step, unit, plan.used[step]).filter(todo) if pc.any(todo).as_py() else table.slice(0, 0)
        )
        for name in stage.reads if len(missing) else ():
            missing = missing.filter(missing[name].is_valid())
        return UnitState(missing, done, errors, len(table) - done - len(errors) - len(missing), parts)

    def missing(self, plan: Plan, step: int, unit: int) -> pa.Table:
        """The items of a unit that a step has yet to do, with the columns that it reads."""
        return self.look(plan, step, unit).todo

    def digest(self, plan: Plan, step: int, unit: int) -> str:
        """Sixteen hexadecimal digits of all that `look` depends on; while they stay, so does the unit's state."""
        rows = min(self.unit, self.rows - unit * self.unit)
        owners = [plan.owners[name] for name in plan.steps[step].stage.reads if name in plan.owners]
        text = f"{unit} {rows}"
        for number in (*(source.step for source in plan.sources(step, plan.used[step], owners)), step):
            parts = self._numbers(self.step_folder(plan, number), unit)
            text += f"\n{plan.folder(number)} {plan.steps[number].where} {parts}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def add(self, plan: Plan, step: int, unit: int, results: pa.Table, seen: Collection[int] | None = None) -> None:
        """Keep what a step did of a unit, but for what another process has done meanwhile.

        Args:
            plan: The stages.
            step: Which of them.
            unit: Which unit.
            results: ``id``, the stage's columns and ``error``.
            seen: Parts that were there when the work began (`UnitState.parts`); by default, now.

        Raises:
            OutputError: if it cannot be written; nothing is left behind then.
        """
        folder = self.step_folder(plan, step)
        if not folder.is_dir():
            make_folder(folder)
        table = results.select([ID, *plan.steps[step].stage.writes, ERROR])
        known = set(self._numbers(folder, unit) if seen is None else seen)
        while True:
            numbers = self._numbers(folder, unit)
            for number in sorted(set(numbers) - known):
                theirs = _read(_part(folder, unit, number), [ID])[ID].combine_chunks()
                table = table.filter(pc.invert(pc.is_in(table[ID], value_set=theirs)))
            known = set(numbers)
            if not len(table):
                return
            try:
                with atomic_file(_part(folder, unit, numbers[-1] + 1 if numbers else 0), replace=False) as file:
                    _write(file, table)
                return
            except OutputError as error:
                if not isinstance(error.__cause__, FileExistsError):
                    raise

    @contextlib.contextmanager
    def claim(self, plan: Plan, step: int, unit: int, wait: bool = False) -> Iterator[bool]:
        """Keep other processes from a step's unit meanwhile; tells whether none of them has it.

        The claim ends with the block or the process, whatever ends that. One unit of a step at a time in a process. On
        a file system without locks all claims succeed, and a unit may be worked on twice, but is kept once.

        Args:
            plan: The stages.
            step: Which of them.
            unit: Which unit.
            wait: Until it is free.
        """
        folder = self.step_folder(plan, step)
        if not folder.is_dir():
            make_folder(folder)
        with open(folder / _CLAIMS, "ab") as file:
            ours = True
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, unit)
            except (BlockingIOError, PermissionError):
                ours = False
            except OSError:
                pass
            yield ours

    def sweep(self, plan: Plan, step: int) -> None:
        """Read a step's folder anew, and remove what killed processes left half-written."""
        folder = self.step_folder(plan, step)
        self._listings.pop(folder.name, None)
        for path in folder.glob(".*.partial"):
            if match := _PART.match(path.name):
                with self.claim(plan, step, int(match[1])) as ours:
                    if ours:
                        path.unlink(missing_ok=True)


def _group_rows(unit: int) -> int:
    """Rows of a row group of the table of items: whole units."""
    return unit * max(1, _GROUP // unit)


def _part(folder: Path, unit: int, number: int) -> Path:
    return folder / f"{unit:06d}-{number:03d}.parquet"


def _list_parts(folder: Path) -> dict[int, list[int]]:
    """Numbers of the parts by unit, in order."""
    found: dict[int, list[int]] = {}
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(entry.name for entry in os.scandir(folder)):
            if (match := _PART.match(name)) and not name.startswith("."):
                found.setdefault(int(match[1]), []).append(int(match[2]))
    return {unit: sorted(numbers) for unit, numbers in found.items()}


def chosen(table: pa.Table, where: str | None) -> pa.Array:
    """Which rows of a table a condition chooses, booleans; all if there is none."""
    if where is None:
        return pa.array([True] * len(table))
    condition, used = parse_query(where, table.column_names)
    rows = acero.Declaration("table_source", acero.TableSourceNodeOptions(table.select(sorted(used))))
    answer = acero.Declaration("project", acero.ProjectNodeOptions([condition], ["chosen"]), [rows])
    return answer.to_table(use_threads=False)["chosen"].combine_chunks().fill_null(False)


def _read(path: Path, columns: list[str] | None) -> pa.Table:
    try:
        return pq.ParquetFile(path).read(columns, use_threads=False)
    except (pa.ArrowInvalid, OSError) as error:
        raise OutputError(f"The file {path} of an earlier run cannot be read ({error}); remove it.") from error


def _write(file: Any, table: pa.Table) -> None:
    """Pictures are compressed already, and differ."""
    leaves = {
        f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name: field.type
        for field in table.schema
    }
    plain = [
        leaf
        for leaf, kind in leaves.items()
        if not pa.types.is_binary(kind.value_type if pa.types.is_list(kind) else kind)
    ]
    pq.write_table(table, file, compression=dict.fromkeys(plain, "zstd"), use_dictionary=plain, write_statistics=plain)
