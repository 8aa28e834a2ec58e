"""What a run has done and cost, and which items have failed: ``report.json`` and ``dead_letters.csv``."""

from __future__ import annotations

import contextlib
import csv
import importlib.metadata
import io
import json
import platform
from typing import Any

from vfusion3d.engine.journal import Entry, read_entries
from vfusion3d.engine.plan import Plan
from vfusion3d.engine.store import Store
from vfusion3d.outputs import write_atomically

REPORT = "report.json"
DEAD_LETTERS = "dead_letters.csv"
_PACKAGES = ("vfusion3d", "torch", "diffusers", "transformers", "scikit-learn", "pycolmap", "ray", "pyarrow", "numpy")


def write_summary(plan: Plan, store: Store) -> dict[str, Any]:
    """Write ``report.json`` and ``dead_letters.csv`` into the store's folder; returns the report.

    Raises:
        OutputError: if they cannot be written.
    """
    report, letters = summarise(plan, store)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("id", "stage", "reason"))
    writer.writerows(letters)
    write_atomically(store.folder / DEAD_LETTERS, text.getvalue().encode())
    write_atomically(store.folder / REPORT, json.dumps(report, indent=2).encode())
    return report


def summarise(plan: Plan, store: Store) -> tuple[dict[str, Any], list[tuple[str, str, str]]]:
    """The report, and the dead letters: id, stage and reason.

    Per stage the report has ``done`` and ``failed`` items, ``skipped`` ones (`UnitState.skipped`) and those ``left``
    to do now, and what all runs together have cost: ``worked`` items, ``seconds``, ``items_per_second`` of one worker
    and ``gpu_hours``.
    """
    stages: list[dict[str, Any]] = []
    letters: list[tuple[str, str, str]] = []
    for number, step in enumerate(plan.steps):
        folder, counts = store.step_folder(plan, number), {"done": 0, "failed": 0, "skipped": 0, "left": 0}
        store.sweep(plan, number)
        entries = read_entries(folder)
        for unit in range(store.units):
            entry = entries.latest.get(unit)
            if entry is None or entry.state != store.digest(plan, number, unit):
                state = store.look(plan, number, unit)
                entry = Entry(unit, "", state.done, state.errors, state.skipped, len(state.todo))
            counts["done"] += entry.done
            counts["failed"] += len(entry.errors)
            counts["skipped"] += entry.skipped
            counts["left"] += entry.left
            letters += [(item, step.stage.name, reason) for item, reason in entry.errors.items()]
        kind = type(step.stage)
        stages.append(
            {
                "name": step.stage.name,
                "class": f"{kind.__module__}.{kind.__qualname__}",
                "version": step.stage.version,
                "fingerprint": plan.fingerprints[number],
                "settings": step.stage.settings,
                "where": step.where,
                "batch_size": step.batch_size,
                "workers": step.workers,
                "gpus": step.gpus,
                **counts,
                "worked": entries.items,
                "seconds": round(entries.seconds, 3),
                "items_per_second": round(entries.items / entries.seconds, 3) if entries.seconds else None,
                "gpu_hours": round(entries.gpu_seconds / 3600, 6),
            }
        )
    report = {
        "items": store.rows,
        "unit": store.unit,
        "stages": stages,
        "failed": len(letters),
        "seconds": round(sum(stage["seconds"] for stage in stages), 3),
        "gpu_hours": round(sum(stage["gpu_hours"] for stage in stages), 6),
        "versions": {"python": platform.python_version(), **_versions()},
    }
    return report, letters


def _versions() -> dict[str, str]:
    """Of the installed packages that decide results."""
    found = {}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
