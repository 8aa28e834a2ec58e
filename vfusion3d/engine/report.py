"""What a run has made so far, as a page to look at: stages, failures, keep rates, histograms, orbits, licences."""

from __future__ import annotations

import heapq
import json
import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vfusion3d.data.query import parse_query
from vfusion3d.engine.page import Page, strip
from vfusion3d.engine.plan import Plan
from vfusion3d.engine.stage import ID, item_seed
from vfusion3d.engine.store import Store, chosen
from vfusion3d.engine.summary import summarise
from vfusion3d.outputs import write_atomically

ORBITS = 8
"""Orbits on each contact sheet."""
_REASONS, _CATEGORIES, _VALUES = 12, 30, 12  # at most so many rows of a table
_ALL, _END = "all", "kept to the end"


def write_report(
    plan: Plan, store: Store, path: str | os.PathLike[str], title: str = "Data engine", category: str = "category"
) -> Path:
    """Write a run's page: one HTML file without anything outside of it.

    Args:
        plan: The run's stages.
        store: What they have done so far; nothing is run.
        path: The file.
        title: Its heading.
        category: Column of text by which keep rates are broken down, where there is such.

    Returns:
        The file.

    Raises:
        OutputError: if it cannot be written, or a result of the run not be read.
    """
    page = Page(title)
    add_run(page, plan, store, category)
    write_atomically(Path(path), page.html().encode())
    return Path(path)


def add_run(page: Page, plan: Plan, store: Store, category: str = "category", level: int = 2) -> None:
    """Add a run's sections to a page.

    Args:
        page: The page.
        plan, store, category: As of `write_report`.
        level: Of the sections' headings.
    """
    page.level = level
    summary, letters = summarise(plan, store)
    _add_stages(page, store, summary["stages"])
    _add_failures(page, letters)
    _add_keep_rates(page, plan, store, category)
    _add_histograms(page, plan, store)
    _add_orbits(page, plan, store)
    _add_configuration(page, plan, store)
    page.level = 2


# -- numbers -----------------------------------------------------------------------------------------------------
def _add_stages(page: Page, store: Store, stages: Sequence[Mapping[str, Any]]) -> None:
    page.heading("Stages")
    page.text(f"{store.rows:,} items in {store.units:,} units of {store.unit}.")
    names = ("name", "where", "done", "failed", "skipped", "left", "items_per_second", "gpu_hours", "fingerprint")
    header = ["stage", "only where", "done", "failed", "skipped", "left", "items a second", "GPU hours", "fingerprint"]
    page.table(header, [[stage[name] for name in names] for stage in stages])
    page.text("Skipped: not let in by a condition, or without what an earlier stage failed to make.", True)


def reason_kind(reason: str) -> str:
    """A failure's reason without what differs from item to item: quoted names and numbers.

    Example:
        >>> reason_kind("Picture 'a/b.png' has 3 objects of 0.25.")
        'Picture … has … objects of ….'
    """
    return re.sub(r"'[^']*'|\"[^\"]*\"|\b\d+(?:[.,]\d+)*", "…", reason)


def _add_failures(page: Page, letters: Sequence[tuple[str, str, str]]) -> None:
    """Dead letters by stage and kind of reason, the most frequent first."""
    counts: Counter[tuple[str, str]] = Counter()
    example: dict[tuple[str, str], tuple[str, str]] = {}
    for item, stage, reason in letters:
        kind = (stage, reason_kind(reason))
        counts[kind] += 1
        example.setdefault(kind, (item, reason))
    if not counts:
        return
    page.heading("Failures")
    rows = [[stage, count, *example[stage, kind]] for (stage, kind), count in counts.most_common(_REASONS)]
    page.table(["stage", "items", "for example", "reason"], rows)
    if len(counts) > _REASONS:
        page.text(f"{len(counts) - _REASONS} rarer reasons are left out; dead_letters.csv has all.", True)


def _add_keep_rates(page: Page, plan: Plan, store: Store, category: str) -> None:
    """How many items got through each condition, and to the end; overall and by category."""
    if not plan.steps:
        return
    known, end = store.columns(plan), len(plan.steps)
    groups: Counter[str] = Counter()
    tallies: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    conditions = {f"{step.stage.name}: {step.where}": step.where for step in plan.steps if step.where}
    used = {where: parse_query(where, known)[1] for where in conditions.values()}
    last = next(iter(plan.steps[-1].stage.writes))
    for unit in range(store.units):
        table = store.table(plan, end, unit, {category, last, *chain.from_iterable(used.values())} & known.keys())
        names = [str(name) for name in table[category].to_pylist()] if category in known else [""] * len(table)
        groups.update(names)
        through = {label: chosen(table, where).to_pylist() for label, where in conditions.items()}
        judged = {
            label: np.logical_and.reduce([table[name].is_valid().to_numpy() for name in sorted(used[where])])
            for label, where in conditions.items()
        }
        through[_END], judged[_END] = table[last].is_valid().to_pylist(), np.ones(len(table), bool)
        for label in through:
            for name, kept, counts in zip(names, through[label], judged[label], strict=True):
                for key in ((label, _ALL), (label, name)):
                    tallies[key][0] += bool(kept)
                    tallies[key][1] += bool(counts)
    page.heading("Keep rates")
    shown = [_ALL, *(name for name, _ in groups.most_common(_CATEGORIES))] if category in known else [_ALL]
    labels = [*conditions, _END]
    rows = [[name, *(_share(*tallies[label, name]) for label in labels)] for name in shown]
    page.table([category if category in known else "items", *labels], rows)


def _share(kept: int, judged: int) -> str | None:
    return f"{kept / judged:.1%} of {judged:,}" if judged else None


def _add_histograms(page: Page, plan: Plan, store: Store) -> None:
    """Numbers as histograms, words and yes or no as counts."""
    kinds = store.columns(plan)
    plots, words = [], []
    for name, kind in kinds.items():
        if name == ID or name.endswith("seed") or _is_licence(name):
            continue
        if pa.types.is_floating(kind) or pa.types.is_integer(kind):
            values = np.concatenate(_arrays(plan, store, name))
            plots.append((f"{name}, degrees", np.degrees(values)) if _in_radians(name) else (name, values))
        elif pa.types.is_boolean(kind) or (pa.types.is_string(kind) and name in plan.owners):
            counts: Counter[str | None] = Counter()
            for unit in range(store.units):
                counts.update(_column(plan, store, unit, name).to_pylist())
            if len(counts) <= _VALUES:
                words += [[name, value, count] for value, count in counts.most_common()]
    if plots or words:
        page.heading("Distributions")
    if plots:
        page.histograms(plots)
    if words:
        page.table(["column", "value", "items"], words)


def _column(plan: Plan, store: Store, unit: int, name: str) -> pa.ChunkedArray:
    return store.table(plan, len(plan.steps), unit, [name])[name]


def _arrays(plan: Plan, store: Store, name: str) -> list[np.ndarray]:
    """A column of numbers by unit, NaN where there is none."""
    columns = (_column(plan, store, unit, name) for unit in range(store.units))
    return [column.cast(pa.float64(), safe=False).to_numpy().astype(np.float64) for column in columns]


# -- pictures ----------------------------------------------------------------------------------------------------
def _add_orbits(page: Page, plan: Plan, store: Store) -> None:
    """Contact sheets of a random sample and, where orbits were scored, of the best and the worst."""
    known = store.columns(plan)
    films = [name for name, kind in known.items() if pa.types.is_list(kind) and pa.types.is_binary(kind.value_type)]
    stills = [name for name, kind in known.items() if pa.types.is_binary(kind)]
    if not films and not stills:
        return
    first = sorted(films or stills, key=lambda name: name not in plan.owners)[0]  # made rather than given
    ids = [item for unit in range(store.units) for item in store.having(plan, unit, first)[ID].to_pylist()]
    sheets = {"A random sample": heapq.nsmallest(ORBITS, ids, key=lambda item: item_seed(item, stream="report"))}
    if "quality" in known:
        scores = {
            row[ID]: row["quality"]
            for unit in range(store.units)
            for row in store.table(plan, len(plan.steps), unit, ["quality"]).to_pylist()
            if row["quality"] is not None and math.isfinite(row["quality"])
        }
        by_score = sorted(scores, key=lambda item: (scores[item], item))
        sheets |= {"Best by quality": by_score[: -ORBITS - 1 : -1], "Worst by quality": by_score[:ORBITS]}
    texts = [name for name, kind in known.items() if _is_told(name, kind)]
    rows = _rows(plan, store, {item for sheet in sheets.values() for item in sheet}, [*films, *stills, *texts])
    for title, sheet in sheets.items():
        if not sheet:
            continue
        page.heading(title)
        for item in sheet:
            _add_item(page, rows[item], films, stills, texts)


def _rows(plan: Plan, store: Store, wanted: set[str], columns: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The wanted items with their columns; only units that have one are read."""
    rows = {}
    for unit in range(store.units):
        ids = store.unit_items(unit)[ID].to_pylist()
        if wanted.isdisjoint(ids):
            continue
        table = store.table(plan, len(plan.steps), unit, columns)
        chosen = table.filter(pc.field(ID).isin(pa.array(sorted(wanted), pa.string())))
        rows.update({row[ID]: row for row in chosen.to_pylist()})
    return rows


def _add_item(page: Page, row: Mapping[str, Any], films: list[str], stills: list[str], texts: list[str]) -> None:
    """An item's pictures, its words and numbers below the last."""
    shown = [name for name in texts if row[name] is not None]
    values = "; ".join(f"{name} {_value(name, row[name])}" for name in shown)
    pictures = [row[name] for name in stills if row[name] is not None]
    strips = [strip(row[name]) for name in films if row[name]]
    if pictures:
        strips.insert(0, strip(pictures, most=len(pictures)))
    for number, picture in enumerate(strips):
        page.picture(picture, f"{row[ID]}; {values}" if number == len(strips) - 1 else "")


def _is_told(name: str, kind: pa.DataType) -> bool:
    """Whether a column is told below an item's pictures; licences have a table of their own."""
    if name == ID or _is_licence(name) or name.endswith("seed"):
        return False
    return not pa.types.is_nested(kind) and not pa.types.is_binary(kind)


def _is_licence(name: str) -> bool:
    return name.endswith(("licence", "license"))


def _in_radians(name: str) -> bool:
    return name.endswith("elevation")


def _value(name: str, value: Any) -> str:
    if _in_radians(name):
        return f"{math.degrees(value):.1f}°"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


# -- configuration -----------------------------------------------------------------------------------------------
def _add_configuration(page: Page, plan: Plan, store: Store) -> None:
    """Settings, in full, and licences as far as items or stages name them."""
    page.heading("Configuration and licences")
    licences: Counter[tuple[str, str]] = Counter()
    for name in filter(_is_licence, store.columns(plan)):
        for unit in range(store.units):
            values = (value for value in _column(plan, store, unit, name).to_pylist() if value is not None)
            licences.update((name, str(value)) for value in values)
    if licences:
        page.table(["column", "licence", "items"], [[*licence, count] for licence, count in licences.most_common()])
    else:
        page.text("No column names a licence.")
    settings = [
        {"stage": step.stage.name, "version": step.stage.version, "where": step.where, "settings": step.stage.settings}
        for step in plan.steps
    ]
    page.details("Settings of all stages", json.dumps(settings, indent=2))
