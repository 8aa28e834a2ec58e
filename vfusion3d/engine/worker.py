"""Doing a step's units in one process."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from vfusion3d.engine.journal import Entries, Entry, append_entry
from vfusion3d.engine.plan import Plan
from vfusion3d.engine.stage import ERROR, ID, ItemError
from vfusion3d.engine.store import Store
from vfusion3d.errors import VFusion3DError
from vfusion3d.outputs import output_errors

_HOPELESS = 16
"""A stage that raised for its first so many items, one by one, is itself what is wrong."""
_DEATHS = 2
"""After so many processes that died over a unit its items are done one by one, and after as many that died over one
item it is given up."""


@dataclass
class UnitSummary:
    """What a step did of a unit now."""

    done: int = 0
    failed: int = 0
    seconds: float = 0.0

    def __iadd__(self, other: UnitSummary) -> UnitSummary:
        self.done, self.failed = self.done + other.done, self.failed + other.failed
        self.seconds += other.seconds
        return self


class Worker:
    """Does units of a step; the stage is loaded with the first item.

    An item that the stage refuses, by an `ItemError`, or over which it raises, costs nothing but itself. What is wrong
    with more than an item ends the work: the library's own errors, and a stage that raised for all of its first 16.

    Args:
        plan: The stages.
        step: Which of them.
        store: What there is.
        retry_failed: Items that failed before are done again.
    """

    def __init__(self, plan: Plan, step: int, store: Store, retry_failed: bool = False) -> None:
        self.plan, self.step, self.store, self.retry_failed = plan, step, store, retry_failed
        self._raised, self._worked = 0, False

    def do(self, unit: int, wait: bool = False) -> UnitSummary | None:
        """Do what is missing of a unit, and keep it.

        Args:
            unit: Which unit.
            wait: Until no other process works on it.

        Returns:
            What was done now, or None while another process works on it.
        """
        plan, step, store = self.plan, self.step, self.store
        started = time.perf_counter()
        with store.claim(plan, step, unit, wait) as ours:
            if not ours:
                return None
            summary = UnitSummary()
            folder, before = store.step_folder(plan, step), store.look(plan, step, unit, self.retry_failed)
            todo, notes = before.todo, folder / f".{unit:06d}.begun"
            if not len(todo):
                notes.unlink(missing_ok=True)  # of a process that was killed when all was kept
            else:
                with _attempts(notes) as attempts:
                    for results in self._results(todo, attempts):
                        store.add(plan, step, unit, results, before.parts)
                        failed = len(results) - results[ERROR].null_count
                        summary.done, summary.failed = summary.done + len(results) - failed, summary.failed + failed
                summary.seconds = time.perf_counter() - started
            digest = store.digest(plan, step, unit)  # first: what comes in between then counts as new
            state = store.look(plan, step, unit)
            left, gpu_seconds = len(state.todo), summary.seconds * plan.steps[step].gpus
            counts = state.done, state.errors, state.skipped, left, len(todo)
            append_entry(folder, Entry(unit, digest, *counts, summary.seconds, gpu_seconds))
            return summary

    def _results(self, todo: pa.Table, attempts: _Attempts) -> Iterator[pa.Table]:
        """Results of the items, in tables to keep."""
        if attempts.before.count("") < _DEATHS:
            size = self.plan.steps[self.step].batch_size
            yield pa.concat_tables([self._batch(todo.slice(start, size)) for start in range(0, len(todo), size)])
            return
        for place in range(len(todo)):
            one = todo.slice(place, 1)
            item = one[ID][0].as_py()
            deaths = attempts.before.count(item)
            if deaths < _DEATHS:
                attempts.note(item)
                yield self._batch(one)
            else:
                yield self._failed(one, f"The process died over it, {deaths} times.")

    def _batch(self, batch: pa.Table) -> pa.Table:
        """A batch's results; one that the stage cannot do as a whole is done item by item."""
        stage = self.plan.steps[self.step].stage
        try:
            results = stage(batch).select([ID, *stage.writes, ERROR])
            self._worked = True
            return results
        except VFusion3DError:
            raise
        except Exception as error:
            if len(batch) == 1:
                return self._lost(batch, error)
        # Outside of the handler, which would keep the failed batch's tensors alive.
        return pa.concat_tables([self._batch(batch.slice(place, 1)) for place in range(len(batch))])

    def _lost(self, item: pa.Table, error: Exception) -> pa.Table:
        if isinstance(error, ItemError):
            return self._failed(item, str(error))
        self._raised += 1
        if self._raised >= _HOPELESS and not self._worked:
            raise error
        where = traceback.extract_tb(error.__traceback__)[-1]
        words = " ".join(str(error).split()) or "no message"
        return self._failed(item, f"{type(error).__name__}: {words} ({Path(where.filename).name}, line {where.lineno})")

    def _failed(self, item: pa.Table, reason: str) -> pa.Table:
        stage = self.plan.steps[self.step].stage
        nothing = {name: pa.nulls(1, kind) for name, kind in stage.writes.items()}
        return pa.table({ID: item[ID], **nothing, ERROR: pa.array([reason], pa.string())})


def is_settled(plan: Plan, step: int, store: Store, unit: int, entries: Entries, retry_failed: bool = False) -> bool:
    """Whether a step's journal says that nothing of a unit is missing."""
    entry = entries.latest.get(unit)
    if entry is None or entry.left or (retry_failed and entry.errors):
        return False
    return entry.state == store.digest(plan, step, unit)


class _Attempts:
    """What processes noted that died over a unit: a line each, with the item if they did them one by one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.before = path.read_text("utf-8").split("\n")[1:] if path.exists() else []

    def note(self, what: str) -> None:
        with output_errors(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(f"\n{what}")


@contextmanager
def _attempts(path: Path) -> Iterator[_Attempts]:
    """A note that a unit was begun, which outlives only a process that is killed."""
    attempts = _Attempts(path)
    attempts.note("")
    try:
        yield attempts
    finally:
        path.unlink(missing_ok=True)
