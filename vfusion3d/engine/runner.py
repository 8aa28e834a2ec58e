"""Running a plan over a store: in this process, or by the executor ray."""

from __future__ import annotations

import contextlib

from vfusion3d.engine.journal import read_entries
from vfusion3d.engine.plan import Plan
from vfusion3d.engine.progress import Progress
from vfusion3d.engine.store import Store
from vfusion3d.engine.summary import write_summary
from vfusion3d.engine.worker import UnitSummary, Worker, is_settled
from vfusion3d.errors import OutputError, UsageError

EXECUTORS = ("local", "ray")


def run(
    plan: Plan, store: Store, quiet: bool = False, retry_failed: bool = False, executor: str = "local"
) -> list[UnitSummary]:
    """Do what is missing, and write ``report.json`` and ``dead_letters.csv`` into the store's folder.

    Several runs may work on one store, on one machine or on several that see its folder: each takes units that no
    other has, and ends when all are done.

    Args:
        plan: The stages.
        store: What there is.
        quiet: No progress bar.
        retry_failed: Items that failed before are done again.
        executor: ``local``: in this process, one stage after another, so that one model is loaded at a time; ``ray``:
            all stages at once, each in its actors (`vfusion3d.engine.ray_runner`).

    Returns:
        What each step did now.

    Raises:
        UsageError: if there is no such executor, or a stage cannot be used as it is.
        OutputError: if the disk says no; what was done before is kept.
    """
    if executor not in EXECUTORS:
        raise UsageError(f"Argument `executor` must be one of {', '.join(EXECUTORS)}, but got {executor!r}.")
    try:
        if executor == "ray":
            from vfusion3d.engine.ray_runner import run_on_ray

            totals = run_on_ray(plan, store, quiet, retry_failed)
        else:
            totals = _run_here(plan, store, quiet, retry_failed)
    except BaseException:
        with contextlib.suppress(OutputError):  # what stopped the run says more
            write_summary(plan, store)
        raise
    write_summary(plan, store)
    return totals


def _run_here(plan: Plan, store: Store, quiet: bool, retry_failed: bool) -> list[UnitSummary]:
    totals = [UnitSummary() for _ in plan.steps]
    with Progress(plan, store, quiet) as progress:
        for step, total in enumerate(totals):
            store.sweep(plan, step)
            entries = read_entries(store.step_folder(plan, step))
            worker = Worker(plan, step, store, retry_failed)
            elsewhere: list[int] = []
            for wait, units in ((False, range(store.units)), (True, elsewhere)):
                for unit in units:
                    if is_settled(plan, step, store, unit, entries, retry_failed):
                        progress.update(step, unit, UnitSummary())
                    elif (did := worker.do(unit, wait)) is None:
                        elsewhere.append(unit)
                    else:
                        total += did
                        progress.update(step, unit, did)
    return totals
