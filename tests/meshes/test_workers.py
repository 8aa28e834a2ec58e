from __future__ import annotations

import os
import time
from typing import Any

import pytest

from vfusion3d.errors import MeshError, UsageError
from vfusion3d.meshes.workers import WorkerPool


def work(item: tuple[str, Any]) -> Any:
    """What the items ask for; runs in the child processes."""
    kind, value = item
    if kind == "mesh error":
        raise MeshError("The mesh m is broken.")
    if kind == "bug":
        raise KeyError(value)
    if kind == "crash":
        os.abort()
    if kind == "hang":
        time.sleep(60)
    if kind == "print":
        print(value)
    return value, os.getpid()


def test_results_come_from_long_lived_processes() -> None:
    outcomes = list(WorkerPool(work, workers=2, timeout=30).map_unordered([("value", k) for k in range(12)]))
    assert sorted(outcome.value[0] for outcome in outcomes) == list(range(12))
    assert {outcome.value[0]: outcome.item[1] for outcome in outcomes} == {k: k for k in range(12)}
    processes = {outcome.value[1] for outcome in outcomes}
    assert 1 <= len(processes) <= 2
    assert os.getpid() not in processes


def test_failures_crashes_and_hangs_cost_only_their_item() -> None:
    items = [("value", 0), ("crash", 1), ("mesh error", 2), ("hang", 3), ("bug", 4), ("value", 5), ("value", 6)]
    started = time.monotonic()
    outcomes = {o.item[0] + str(o.item[1]): o for o in WorkerPool(work, 2, timeout=2.0).map_unordered(items)}
    assert len(outcomes) == len(items)
    assert time.monotonic() - started < 40
    for key in ("value0", "value5", "value6"):
        assert outcomes[key].error is None
    assert outcomes["mesh error2"].error == "The mesh m is broken."
    assert "KeyError" in str(outcomes["bug4"].error)
    assert "crashed (exit code -6)" in str(outcomes["crash1"].error)
    assert "longer than 2 seconds" in str(outcomes["hang3"].error)
    assert outcomes["hang3"].seconds >= 2.0


def test_standard_output_stays_clean(capfd: pytest.CaptureFixture[str]) -> None:
    list(WorkerPool(work, 1, 30).map_unordered([("print", "chatter")]))
    assert capfd.readouterr().out == ""


def test_closing_the_iterator_ends_the_workers() -> None:
    results = WorkerPool(work, 1, 30).map_unordered([("value", 0), ("hang", 1)])
    process = next(results).value[1]
    results.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_no_items_start_no_process() -> None:
    assert list(WorkerPool(work, 4, 30).map_unordered([])) == []


@pytest.mark.parametrize(("workers", "timeout", "name"), [(0, 1.0, "workers"), (1, 0.0, "timeout")])
def test_arguments_are_checked(workers: int, timeout: float, name: str) -> None:
    with pytest.raises(UsageError, match=f"`{name}`"):
        WorkerPool(work, workers, timeout)
