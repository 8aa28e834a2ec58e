"""Running a plan over a store in this process."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import pyarrow as pa
from tqdm import tqdm

from vfusion3d.engine.plan import Plan
from vfusion3d.engine.stage import ERROR
from vfusion3d.engine.store import Store


@dataclass
class UnitSummary:
    """What a step did of a unit now."""

    done: int = 0
    failed: int = 0


def run(plan: Plan, store: Store, quiet: bool = False) -> list[UnitSummary]:
    """Do what is missing, one stage after another, so that one model is loaded at a time.

    Args:
        plan: The stages.
        store: What there is.
        quiet: No progress bars.

    Returns:
        What each step did now.
    """
    totals = []
    for number, step in enumerate(plan.steps):
        total = UnitSummary()
        with tqdm(total=len(store.items), desc=step.stage.name, unit="item", file=sys.stderr, disable=quiet) as bar:
            for unit in range(store.units):
                summary = run_unit(plan, number, store, unit)
                total.done, total.failed = total.done + summary.done, total.failed + summary.failed
                bar.update(len(store.unit_items(unit)))
        totals.append(total)
    return totals


def run_unit(plan: Plan, step: int, store: Store, unit: int) -> UnitSummary:
    """Do what a step has yet to do of a unit, and keep it."""
    todo = store.missing(plan, step, unit)
    if not len(todo):
        return UnitSummary()
    one = plan.steps[step]
    batches = [one.stage(todo.slice(start, one.batch_size)) for start in range(0, len(todo), one.batch_size)]
    results = pa.concat_tables(batches)
    store.add(plan, step, unit, results)
    failed = len(results) - results[ERROR].null_count
    return UnitSummary(len(results) - failed, failed)
