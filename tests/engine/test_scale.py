"""Ten thousand items, and processes that are killed: the finished set is the undisturbed run's."""

from __future__ import annotations

import multiprocessing
import random
import time
from pathlib import Path

import pytest

from tests.engine.fakes import chain, contents
from vfusion3d.engine import Plan, Store, run

FORK = multiprocessing.get_context("fork")


def peak_mib():
    """Most memory that this process had since it was asked last."""
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
    Path("/proc/self/clear_refs").write_text("5")
    return peak


def check(plan: Plan, count: int, folder: Path):
    """Every item is there once, or has said why not."""
    draw, double, picture = contents(plan, folder)
    assert len(draw) == len(set(draw["id"].to_pylist())) == count and draw["error"].null_count == count - 1
    sound = [row for row in draw.to_pylist() if row["error"] is None]
    assert picture["id"].to_pylist() == [row["id"] for row in sound]
    assert double["id"].to_pylist() == [row["id"] for row in sound if row["number"] > 10**18]
    failed = len(picture) - picture["error"].null_count
    assert 0.02 < failed / len(picture) < 0.04 or count < 5000
    return failed


def test_ten_thousand_items_in_flat_memory(tmp_path):
    table, plan = chain(10_000, size=4096)
    run(plan, Store(tmp_path, table.slice(0, 2_000), unit=500), quiet=True)
    peak_mib()
    before = peak_mib()
    totals = run(plan, Store(tmp_path, table, unit=500), quiet=True)
    grown = peak_mib() - before
    assert totals[0].done == 8_000 and check(plan, 10_000, tmp_path) > 200
    assert grown < 15  # MiB; the pictures have 35


@pytest.mark.slow
def test_processes_killed_at_random_lose_nothing(tmp_path):
    table, plan = chain(400, seconds=0.002)
    run(plan, Store(tmp_path / "a", table, unit=10), quiet=True)
    random.seed(0)
    folder, killed = Store(tmp_path / "b", table, unit=10), 0
    for step in range(5):  # two at a time share the work; they are killed in the midst of it
        pair = [FORK.Process(target=run, args=(plan, Store(tmp_path / "b", table, unit=10), True)) for _ in range(2)]
        for process in pair:
            process.start()
        while len(list(folder.folder.rglob("*.parquet"))) <= 10 * step:
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.02))
        for process in pair:
            process.kill()
            process.join()
            killed += process.exitcode == -9
    assert killed == 10
    run(plan, folder, quiet=True)
    check(plan, 400, tmp_path / "b")
    assert contents(plan, tmp_path / "b") == contents(plan, tmp_path / "a")
    left = [path for path in folder.folder.rglob(".*") if path.name != ".claims"]
    assert not left
