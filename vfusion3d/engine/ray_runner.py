"""Running a plan by Ray Data: all stages at once, each in a pool of actors of its own."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from vfusion3d import errors
from vfusion3d.engine.journal import read_entries
from vfusion3d.engine.plan import Plan
from vfusion3d.engine.progress import Progress
from vfusion3d.engine.store import Store
from vfusion3d.engine.worker import UnitSummary, Worker, is_settled
from vfusion3d.errors import UsageError, VFusion3DError
from vfusion3d.ray_session import import_ray, ray_session

_BLOCKS = 10_000
"""Blocks of units that Ray Data keeps book of, at most."""
_STOP = "stop"


class UnitActor:
    """Does a step's units; the stage is loaded once. What travels through Ray are unit numbers and counts."""

    def __init__(self, plan: Plan, step: int, folder: str, retry_failed: bool, here: str) -> None:
        with contextlib.suppress(OSError):
            os.chdir(here)  # so that the stages' relative paths mean the same
        self.step, self.worker = step, Worker(plan, step, Store.open(folder), retry_failed)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Do the units of a batch and append what was done; after an error that ends the run pass them on undone."""
        stops = batch[_STOP].to_pylist()
        counts: list[list[float]] = []
        for place, unit in enumerate(batch["unit"].to_pylist()):
            summary = UnitSummary()
            if stops[place] is None:
                try:
                    summary = self.worker.do(unit, wait=True) or summary
                except VFusion3DError as error:
                    stops[place] = f"{type(error).__name__}\n{error}"
            counts.append([summary.done, summary.failed, summary.seconds])
        batch = batch.set_column(batch.column_names.index(_STOP), _STOP, pa.array(stops, pa.string()))
        return batch.append_column(str(self.step), pa.array(counts, pa.list_(pa.float64())))


def run_on_ray(plan: Plan, store: Store, quiet: bool = False, retry_failed: bool = False) -> list[UnitSummary]:
    """Do what is missing, unit by unit through the chain, as a streaming pipeline of Ray Data.

    Each step has `Step.workers` actors with `Step.gpus` GPUs each. They read and write the store's folder, which all
    nodes must see under its path; pictures never pass through Ray. A lost worker or node costs the units that it was
    working on, which Ray gives to another. A running cluster is used where Ray finds one, else this machine.

    Raises:
        MissingExtraError: if Ray is not installed.
        UsageError: if Ray does not start, or this machine has too few GPUs.
    """
    data = import_ray("ray.data")
    totals = [UnitSummary() for _ in plan.steps]
    with ray_session() as ray, Progress(plan, store, quiet, parallel=True) as progress:
        before: list[int] | None = None
        pending = list(_pending(plan, store, retry_failed, progress))
        while pending and pending != before:
            for row in _stream(data, ray, plan, store, pending, retry_failed and before is None):
                _count(row, totals, progress if before is None else None)
            # A node may have seen what another one wrote only after its turn, as network file systems allow.
            before, pending = pending, list(_pending(plan, store, False, None))
    return totals


def _stream(
    data: Any, ray: Any, plan: Plan, store: Store, pending: list[int], retry_failed: bool
) -> Iterator[dict[str, Any]]:
    """Units through all steps; yields their counts."""
    units = [{"unit": unit, _STOP: None} for unit in pending]
    table = pa.Table.from_pylist(units, pa.schema([("unit", pa.int64()), (_STOP, pa.string())]))
    size = -(-len(table) // _BLOCKS)
    chain = data.from_arrow([table.slice(start, size) for start in range(0, len(table), size)])
    cpus = _cpus(plan, ray)
    for number, step in enumerate(plan.steps):
        chain = chain.map_batches(  # Ray Data spreads actors over the nodes, and restarts lost ones, by default
            UnitActor,
            fn_constructor_args=(plan, number, str(store.folder), retry_failed, os.getcwd()),
            compute=data.ActorPoolStrategy(size=step.workers),
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=cpus,
            num_gpus=step.gpus,
        )
    with _quiet(data):
        for batch in chain.iter_batches(batch_size=None, batch_format="pyarrow"):
            yield from batch.to_pylist()


def _pending(plan: Plan, store: Store, retry_failed: bool, progress: Progress | None) -> Iterator[int]:
    """Units that some step is not through with."""
    entries = []
    for step in range(len(plan.steps)):
        store.sweep(plan, step)
        entries.append(read_entries(store.step_folder(plan, step)))
    for unit in range(store.units):
        if all(is_settled(plan, step, store, unit, known, retry_failed) for step, known in enumerate(entries)):
            if progress:
                for step in range(len(plan.steps)):
                    progress.update(step, unit, UnitSummary())
        else:
            yield unit


def _cpus(plan: Plan, ray: Any) -> float:
    """Processor cores that each actor is counted with: one, or less, so that half of them are enough for all.

    Then the actors of a lost node find room on the others.

    Raises:
        UsageError: if the machine lacks GPUs that the steps ask for; a cluster may still get them.
    """
    there = ray.cluster_resources()
    gpus = sum(step.workers * step.gpus for step in plan.steps)
    if gpus > there.get("GPU", 0) and len(ray.nodes()) == 1:
        raise UsageError(
            f"The steps ask for {gpus:g} GPUs, but this machine has {there.get('GPU', 0):g} for Ray; lower `gpus` or "
            "`workers` in the configuration, or use --executor local."
        )
    actors = sum(step.workers for step in plan.steps)
    return math.floor(min(1.0, there.get("CPU", 1) / (2 * actors)) * 1000) / 1000


def _count(row: dict[str, Any], totals: list[UnitSummary], progress: Progress | None) -> None:
    """Add up what was done of a unit.

    Raises:
        VFusion3DError: the one that ends the run.
    """
    if row[_STOP] is not None:
        kind, sentence = row[_STOP].split("\n", 1)
        raise getattr(errors, kind, VFusion3DError)(sentence)
    for step, total in enumerate(totals):
        done, failed, seconds = row[str(step)]
        did = UnitSummary(int(done), int(failed), seconds)
        total += did
        if progress:
            progress.update(step, row["unit"], did)


@contextlib.contextmanager
def _quiet(data: Any) -> Iterator[None]:
    """Without Ray Data's own progress bars beside ours."""
    context = data.DataContext.get_current()
    before, context.enable_progress_bars = context.enable_progress_bars, False
    try:
        yield
    finally:
        context.enable_progress_bars = before
