"""Runs over a store: what is missing is done, once; what fails costs nothing but itself; a run tells what it did."""

from __future__ import annotations

import csv
import json
import multiprocessing
import signal

import pyarrow as pa
import pytest

from tests.engine.fakes import Double, Draw, Killer, Picture, chain, contents, items
from vfusion3d.engine import Plan, RuleCaptionFilter, Stage, Step, Store, regenerate, run, store
from vfusion3d.engine.progress import Progress
from vfusion3d.engine.worker import UnitSummary
from vfusion3d.errors import OutputError, UsageError

FORK = multiprocessing.get_context("fork")


def test_a_chain_runs_and_fills_what_is_missing(tmp_path):
    table, draw, double = items(10, bad=[3]), Draw(), Double()
    plan = Plan([Step(draw, batch_size=2), Step(double)], table.column_names)
    folder = Store(tmp_path, table, unit=4)
    first, second = run(plan, folder, quiet=True)
    assert (first.done, first.failed) == (9, 1) and (second.done, second.failed) == (9, 0)
    assert draw.seen == table["id"].to_pylist()
    again = run(plan, Store(tmp_path, table, unit=4), quiet=True)
    assert not any(total.done or total.failed for total in again) and len(draw.seen) == 10
    rows = folder.table(plan, 2, 0, ["number", "twice"]).to_pylist()
    assert rows[3]["number"] is None and rows[0]["twice"] == 2.0 * rows[0]["number"]


def test_a_looser_condition_does_only_the_new_items_and_a_stricter_one_hides(tmp_path):
    table = pa.table({"id": list("abcd"), "prompt": ["a cup"] * 4, "score": [0.1, 0.9, 0.4, 0.6]})
    folder, draw, seen = Store(tmp_path, table, unit=3), Draw(), []
    for bound, new, visible in ((0.5, "bd", "bd"), (0.3, "c", "bcd"), (0.8, "", "b")):
        plan = Plan([Step(draw, where=f"score > {bound}"), Step(Double())], table.column_names)
        totals = run(plan, folder, quiet=True)
        seen += new
        assert draw.seen == seen and totals[1].done == len(new)
        rows = pa.concat_tables([folder.table(plan, 2, unit, ["number", "twice"]) for unit in (0, 1)]).to_pylist()
        for name in ("number", "twice"):
            assert "".join(row["id"] for row in rows if row[name] is not None) == visible
        stages = json.loads((tmp_path / "report.json").read_text())["stages"]
        assert [(one["done"], one["skipped"], one["left"]) for one in stages] == [
            (len(visible), 4 - len(visible), 0)
        ] * 2


def test_new_rows_and_new_stages_rewrite_nothing(tmp_path):
    table, draw = items(6), Draw()
    run(Plan([Step(draw)], table.column_names), Store(tmp_path, table.slice(0, 5), unit=4), quiet=True)
    before = {path: (path.stat().st_ino, path.read_bytes()) for path in tmp_path.rglob("0*.parquet")}
    totals = run(Plan([Step(draw), Step(Double())], table.column_names), Store(tmp_path, table, unit=4), quiet=True)
    assert draw.seen == table["id"].to_pylist() and totals[1].done == 6 and len(before) == 2
    assert before == {path: (path.stat().st_ino, path.read_bytes()) for path in before}
    changed = table.set_column(1, "prompt", pa.array(["a pot"] * 6))
    for other in (changed, table.slice(0, 3)):
        with pytest.raises(UsageError, match="was begun with other items; keep those rows and add new ones after them"):
            Store(tmp_path, other, unit=4)
    with pytest.raises(UsageError, match="has units of another size; keep `unit` as it was"):
        Store(tmp_path, table, unit=5)


def test_another_setting_is_another_result(tmp_path):
    table = items(2)
    folder = Store(tmp_path, table)
    plans = [Plan([Step(Draw(seed)), Step(Double())], table.column_names) for seed in (0, 1)]
    for plan in plans:
        run(plan, folder, quiet=True)
    assert plans[0].fingerprints[1] != plans[1].fingerprints[1]
    numbers = [folder.results(plan, 0, 0)["number"].to_pylist() for plan in plans]
    assert not set(numbers[0]) & set(numbers[1])


def test_a_finished_run_is_not_read_again(tmp_path, monkeypatch):
    table, plan = chain(40)
    run(plan, Store(tmp_path, table, unit=4), quiet=True)
    letters, report = ((tmp_path / name).read_text() for name in ("dead_letters.csv", "report.json"))
    read = []
    monkeypatch.setattr(
        store, "_read", lambda path, columns, known=store._read: read.append(path) or known(path, columns)
    )
    run(plan, Store(tmp_path, table, unit=4), quiet=True)
    assert read == [tmp_path / "items.parquet"]
    assert (tmp_path / "dead_letters.csv").read_text() == letters
    assert (tmp_path / "report.json").read_text() == report
    folder = tmp_path / "stages" / plan.folder(0)
    (folder / "units.jsonl").write_text('{"unit":\n{"unit":0}\n')  # a lost journal costs looking, not results
    (folder / ".000003.begun").write_text("\n")  # killed when all of the unit was kept
    assert not any(total.done or total.failed for total in run(plan, Store(tmp_path, table, unit=4), quiet=True))
    assert (tmp_path / "dead_letters.csv").read_text() == letters and not list(folder.glob("*.begun"))


def test_items_that_fail_are_told_and_done_again_on_demand(tmp_path):
    table, picture = items(40, bad=[3]), Picture(share=0.1)
    plan = Plan([Step(Draw()), Step(picture, batch_size=16)], table.column_names)
    folder = Store(tmp_path, table, unit=20)
    totals = run(plan, folder, quiet=True)
    lost = [row["id"] for row in contents(plan, tmp_path)[1].to_pylist() if row["error"]]
    assert 1 <= totals[1].failed == len(lost) < 12 and totals[1].done == 39 - len(lost)
    with open(tmp_path / "dead_letters.csv", newline="") as file:
        letters = list(csv.DictReader(file))
    assert letters[0] == {"id": "i3", "stage": "draw", "reason": "It is bad."}
    assert sorted(row["id"] for row in letters[1:]) == sorted(lost)
    assert letters[1]["reason"].startswith("RuntimeError: no memory for it (fakes.py, line ")
    picture.share = 0.0  # there is memory now
    again = run(plan, folder, quiet=True, retry_failed=True)
    assert (again[0].failed, again[1].done) == (1, len(lost))
    table = pa.concat_tables([folder.table(plan, 2, unit, ["image"]) for unit in (0, 1)])
    assert len(table) == 40 and table["image"].null_count == 1
    report = json.loads((tmp_path / "report.json").read_text())
    assert (
        report["failed"] == 1 and report["stages"][1]["done"] == 39 and report["stages"][1]["worked"] == 39 + len(lost)
    )


def test_a_stage_that_raises_for_everything_ends_the_run(tmp_path):
    table = items(40)
    plan = Plan([Step(Draw()), Step(Picture(share=1.0), batch_size=8)], table.column_names)
    with pytest.raises(RuntimeError, match="no memory for it"):
        run(plan, Store(tmp_path, table, unit=20), quiet=True)
    assert json.loads((tmp_path / "report.json").read_text())["stages"][1]["left"] == 40

    class Short(Stage):
        name, reads, writes = "short", ("prompt",), {"x": pa.int64()}

        def process(self, rows):
            return []

    run(Plan([Step(Short())], table.column_names), Store(tmp_path / "b", table.slice(0, 2), unit=2), quiet=True)
    assert "gave 0 results for 1 items" in (tmp_path / "b" / "dead_letters.csv").read_text()


def test_an_item_that_kills_its_process_is_given_up(tmp_path):
    table = items(9, bad=[4])
    plan = Plan([Step(Killer())], table.column_names)
    for _ in range(4):
        process = FORK.Process(target=run, args=(plan, Store(tmp_path, table, unit=3), True))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    (total,) = run(plan, Store(tmp_path, table, unit=3), quiet=True)
    assert (total.done, total.failed) == (4, 1)  # the other item of its unit was kept before
    assert 'i4,killer,"The process died over it, 2 times."' in (tmp_path / "dead_letters.csv").read_text()
    assert contents(plan, tmp_path)[0]["id"].to_pylist() == [f"i{n}" for n in range(9)]
    assert not list(tmp_path.rglob("*.begun"))


def test_one_item_made_anew_is_the_same_bytes(tmp_path):
    table, plan = chain(40)
    run(plan, Store(tmp_path, table, unit=16), quiet=True)
    rows = contents(plan, tmp_path)[2].to_pylist()
    good = next(row for row in rows if row["error"] is None)
    assert regenerate(plan, table, good["id"])["image"] == good["image"] != None  # noqa: E711
    failed = regenerate(plan, table, "i3")
    assert failed["error"] == "draw: It is bad." and failed["image"] is None
    with pytest.raises(UsageError, match="no item 'i40'"):
        regenerate(plan, table, "i40")


def test_a_full_disk_ends_the_run_and_costs_nothing(tmp_path, monkeypatch):
    table, plan = chain(40)
    run(plan, Store(tmp_path / "a", table, unit=4), quiet=True)
    folder, calls = Store(tmp_path / "b", table, unit=4), []

    def full(number):
        calls.append(number)
        if len(calls) > 14:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OutputError, match="the disk is full; nothing of this result was kept; free some space"):
            run(plan, folder, quiet=True)
    assert not [path for path in folder.folder.rglob(".*") if path.name != ".claims"]
    totals = run(plan, Store(tmp_path / "b", table, unit=4), quiet=True)
    assert totals[0].done == 0 and totals[2].done > 0
    assert contents(plan, tmp_path / "b") == contents(plan, tmp_path / "a")


def test_progress_tells_speed_time_left_and_gpu_hours(tmp_path, capsys):
    table = items(100)
    plan = Plan([Step(Draw()), Step(Double(), gpus=2)], table.column_names)
    with Progress(plan, Store(tmp_path, table, unit=50)) as progress:
        progress.update(0, 0, UnitSummary(50, 0, 25.0))
        assert progress.bar.postfix == "2 items/s, 00:25+ left, 0 of 0 GPU-hours"
        progress.update(0, 1, UnitSummary(50, 0, 25.0))
        progress.update(1, 0, UnitSummary(40, 10, 3600.0))
        assert progress.bar.postfix == "0.0139 items/s, 1:00:00 left, 2 of 4 GPU-hours"
    assert "double (2/2):  75%" in capsys.readouterr().err


def test_stages_that_do_not_fit():
    with pytest.raises(UsageError, match="The stage double reads the column 'number', which no stage before it"):
        Plan([Step(Double())], ["id", "prompt"])
    with pytest.raises(UsageError, match="writes the column 'single_object', which the items has already"):
        Plan([Step(RuleCaptionFilter())], ["id", "prompt", "single_object"])
    with pytest.raises(UsageError, match="Two stages are called 'draw'"):
        Plan([Step(Draw()), Step(Draw(1))], ["id", "prompt"])
    with pytest.raises(UsageError, match="`workers` of draw must be at least 1, but got 0"):
        Step(Draw(), workers=0)

    class Settled(Draw):
        def __init__(self):
            Stage.__init__(self, folder=object())

    with pytest.raises(UsageError, match="The stage draw has settings that are no plain data"):
        Plan([Step(Settled())], ["id", "prompt"])
