"""The script at toy size: its keys and errors; its ratios mean nothing there."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "loading.py"


def run(monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *options])
    status: int = runpy.run_path(str(SCRIPT))["main"]()
    return status


def test_small(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    options = ["--json", "--items", "2", "--size", "32", "--resolution", "24", "--batch-size", "1", "--repeats", "1"]
    assert run(monkeypatch, *options) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document["samples_per_second"]) == {"0", "1", "2"}
    assert min(document["samples_per_second"].values()) > 0 and document["worker_ratio"] > 0
    assert document["limit"] in document["stages"] and document["picture"] == [32, 32]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = runpy.run_path(str(SCRIPT))
    script["write_table"](tmp_path, 5000)
    result = script["memory_of"](str(tmp_path), str(tmp_path), "elevation > 0.2")
    assert 3000 < result["rows"] < 4500 and result["peak_mib"] >= result["resident_mib"] >= 0


def test_no_such_set(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    assert run(monkeypatch, "nowhere") == 2
    assert "The shard set nowhere does not exist" in capsys.readouterr().err
