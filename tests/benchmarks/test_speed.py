"""The script at toy size: its keys and errors; its ratios mean nothing there."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "speed.py"


def test_small(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    options = ["--json", "--small", "--repeats", "1", "--only", "occupancy", "mesh", "networks"]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *options])
    threads = torch.get_num_threads()
    main: Callable[[], int] = runpy.run_path(str(SCRIPT))["main"]
    try:
        assert main() == 0
    finally:
        torch.set_num_threads(threads)
    document = json.loads(capsys.readouterr().out)
    assert document["small"] is True and document["machine"]["threads"] == 1 and "cost" in document["twins"]
    for name in ("render_occupancy_quarter", "render_occupancy_tenth", "render_fog"):
        assert document[f"{name}_ratio"] > 0 and document[f"{name}_psnr"] > 60
    assert 0.2 < document["render_occupancy_quarter_cover"] < 0.3
    assert 0.08 < document["render_occupancy_tenth_cover"] < 0.12
    assert document["mesh_exact_max_error"] < 1e-4 and document["vertex_colour_max_error"] < 1e-5
    assert document["mesh_coarse_to_fine_vertices"] > 0.995
    assert document["decoder_bf16_max_error"] < 0.01 and document["encoder_bf16_max_error"] < 0.01


def test_no_such_device(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    if torch.cuda.is_available():
        pytest.skip("it is here")
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--device", "cuda"])
    assert runpy.run_path(str(SCRIPT))["main"]() == 2
    assert "the device cuda is not here" in capsys.readouterr().err
