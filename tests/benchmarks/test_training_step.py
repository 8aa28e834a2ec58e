"""The benchmark of a training step, small and on the processor."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "training_step.py"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    return runpy.run_path(str(SCRIPT))["main"]()


def test_rows_of_both_modes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--device", "cpu", "--preset", "tiny", "--patch", "16", "--resolution", "24", "--repeats", "1"]
    assert run(monkeypatch, *small, "--batches", "1", "3", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["gradient_checkpointing"], row["batch"]) for row in rows] == [
        (True, 1),
        (True, 3),
        (False, 1),
        (False, 3),
    ]
    for row in rows:
        assert row["samples_per_second"] == pytest.approx(row["batch"] / row["seconds"])
        assert row["peak_gib"] is None and row["tflops"] > 0
    assert rows[3]["estimate_gib"] > rows[2]["estimate_gib"]
    assert run(monkeypatch, *small, "--batches", "1") == 0
    assert "| off | 1 |" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_no_such_device(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--device", "cuda") == 2
    assert "Device 'cuda' is not available" in capsys.readouterr().err
