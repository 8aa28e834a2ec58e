from __future__ import annotations

from typing import ClassVar

import pyarrow as pa
import pytest

from vfusion3d.engine import ItemError, Plan, RuleCaptionFilter, Stage, Step, Store, item_seed, run
from vfusion3d.errors import UsageError


class Draw(Stage):
    """A number of each item's own; some items fail."""

    name, reads = "draw", ("prompt",)
    writes: ClassVar = {"number": pa.int64()}

    def __init__(self, seed=0):
        super().__init__(seed=seed)
        self.seed, self.seen = seed, []

    def process(self, rows):
        self.seen += [row["id"] for row in rows]
        return [
            ItemError("It is bad.") if row["prompt"] == "bad" else {"number": item_seed(row["id"], self.seed)}
            for row in rows
        ]


class Double(Stage):
    name, reads = "double", ("number",)
    writes: ClassVar = {"twice": pa.float64()}

    def process(self, rows):
        return [{"twice": 2.0 * row["number"]} for row in rows]


def items(count, bad=()):
    return pa.table(
        {"id": [f"i{n}" for n in range(count)], "prompt": ["bad" if n in bad else "a cup" for n in range(count)]}
    )


def test_a_chain_runs_and_fills_what_is_missing(tmp_path):
    table, draw, double = items(10, bad=[3]), Draw(), Double()
    plan = Plan([Step(draw, batch_size=2), Step(double)], table.column_names)
    store = Store(tmp_path, table, unit=4)
    first, second = run(plan, store, quiet=True)
    assert (first.done, first.failed) == (9, 1) and (second.done, second.failed) == (9, 0)
    assert draw.seen == table["id"].to_pylist()
    again = run(plan, Store(tmp_path, table, unit=4), quiet=True)
    assert not any(total.done or total.failed for total in again) and len(draw.seen) == 10
    rows = store.table(plan, 2, 0, ["number", "twice"]).to_pylist()
    assert rows[3]["number"] is None and rows[0]["twice"] == 2.0 * rows[0]["number"]


def test_a_looser_condition_does_only_the_new_items(tmp_path):
    table = pa.table({"id": list("abcd"), "prompt": ["a cup"] * 4, "score": [0.1, 0.9, 0.4, 0.6]})
    store, draw = Store(tmp_path, table, unit=3), Draw()
    for where, seen in (("score > 0.5", ["b", "d"]), ("score > 0.3", ["b", "d", "c"])):
        run(Plan([Step(draw, where=where)], table.column_names), store, quiet=True)
        assert draw.seen == seen


def test_another_setting_is_another_result(tmp_path):
    table = items(2)
    store = Store(tmp_path, table)
    plans = [Plan([Step(Draw(seed)), Step(Double())], table.column_names) for seed in (0, 1)]
    for plan in plans:
        run(plan, store, quiet=True)
    assert plans[0].fingerprints[1] != plans[1].fingerprints[1]
    numbers = [store.results(plan, 0, 0)["number"].to_pylist() for plan in plans]
    assert not set(numbers[0]) & set(numbers[1])


def test_stages_that_do_not_fit():
    with pytest.raises(UsageError, match="The stage double reads the column 'number', which no stage before it"):
        Plan([Step(Double())], ["id", "prompt"])
    with pytest.raises(UsageError, match="writes the column 'single_object', which the items has already"):
        Plan([Step(RuleCaptionFilter())], ["id", "prompt", "single_object"])
