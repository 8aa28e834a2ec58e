"""One progress bar for a whole run."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm import tqdm

from vfusion3d.engine.journal import read_entries
from vfusion3d.engine.plan import Plan
from vfusion3d.engine.store import Store
from vfusion3d.engine.worker import UnitSummary

_HOUR = 3600.0


class Progress:
    """Items of all stages, with throughput, time left and GPU-hours of the run so far and at its end.

    Time left is what the items left of each stage cost by what its items have cost, in this run or, until it has done
    some, in earlier ones; a stage that was never run is not in it, which a ``+`` says.

    Args:
        plan: The stages.
        store: What there is.
        quiet: Show nothing.
        parallel: The stages work at the same time, each in its `workers`.
    """

    def __init__(self, plan: Plan, store: Store, quiet: bool = False, parallel: bool = False) -> None:
        self.plan, self.store, self.parallel, self.quiet = plan, store, parallel, quiet
        self.left = [store.rows] * len(plan.steps)
        past = [read_entries(store.step_folder(plan, step)) for step in range(len(plan.steps))]
        self._past = [(entries.items, entries.seconds) for entries in past]
        self._now = [(0, 0.0)] * len(plan.steps)  # items and seconds
        self._gpu_hours = sum(entries.gpu_seconds for entries in past) / _HOUR
        self._started = time.monotonic()
        total = store.rows * len(plan.steps)
        layout = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
        self.bar = tqdm(total=total, unit="item", file=sys.stderr, disable=quiet, bar_format=layout)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()

    def update(self, step: int, unit: int, did: UnitSummary) -> None:
        """A step is through with a unit."""
        rows = min(self.store.unit, self.store.rows - unit * self.store.unit)
        self.left[step] -= rows
        if did.seconds:
            items, seconds = self._now[step]
            self._now[step] = items + did.done + did.failed, seconds + did.seconds
            self._gpu_hours += did.seconds * self.plan.steps[step].gpus / _HOUR
        if not self.quiet:
            stage = self.plan.steps[step].stage.name
            self.bar.set_description_str(f"{stage} ({step + 1}/{len(self.left)})", refresh=False)
            self.bar.set_postfix_str(self._told(step), refresh=False)
            self.bar.update(rows)

    def _told(self, step: int) -> str:
        items, seconds = self._now[step]
        if self.parallel:
            items, seconds = max(now[0] for now in self._now), time.monotonic() - self._started
        words = [f"{items / seconds:.3g} items/s"] if items and seconds else []
        costs = [self._cost(number) for number in range(len(self.left))]
        waits = [
            cost / (one.workers if self.parallel else 1)
            for cost, one in zip(costs, self.plan.steps, strict=True)
            if cost is not None
        ]
        if waits:
            more = "+" if None in costs else ""
            words.append(f"{tqdm.format_interval(max(waits) if self.parallel else sum(waits))}{more} left")
        if any(one.gpus for one in self.plan.steps):
            end = (
                self._gpu_hours
                + sum((cost or 0.0) * one.gpus for cost, one in zip(costs, self.plan.steps, strict=True)) / _HOUR
            )
            words.append(f"{self._gpu_hours:.3g} of {end:.3g} GPU-hours")
        return ", ".join(words)

    def _cost(self, step: int) -> float | None:
        """Seconds that a step's items left cost; None if no item of it was ever done."""
        items, seconds = self._now[step] if self._now[step][0] else self._past[step]
        return 0.0 if not self.left[step] else self.left[step] * seconds / items if items else None
