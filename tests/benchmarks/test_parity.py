"""The script on the developers' fixtures, and its verdict on planted faults."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "parity.py"


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Callable[..., tuple[int, str, str]]:
    def run(*options: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *options])
        main: Callable[[], int] = runpy.run_path(str(SCRIPT))["main"]
        code = main()
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("vfusion3d_a", {"tokens", "planes", "raw_density", "point_rgb", "coarse_rgb", "rand_rgb", "crop_depth"}),
        ("openlrm_a", {"tokens", "planes", "raw_density", "point_rgb", "coarse_rgb", "rand_rgb", "patch_depth"}),
        ("extras", {"vfusion3d_encoder", "openlrm_encoder", "vfusion3d_positions_512", "openlrm_item_views"}),
    ],
)
def test_fixtures(shared: Path, call: Callable[..., tuple[int, str, str]], name: str, stages: set[str]) -> None:
    code, out, _ = call(str(shared / "parity" / name), "--json")
    document = json.loads(out)
    assert code == 0 and document["passed"] is True and stages <= document["stages"].keys()
    for stage in document["stages"].values():
        assert stage["passed"] and stage["max_error"] <= stage["tolerance"]


@pytest.mark.parametrize(("key", "stage"), [("planes", "planes"), ("det_rgb", "det_rgb")])
def test_a_fault_fails(
    shared: Path, call: Callable[..., tuple[int, str, str]], tmp_path: Path, key: str, stage: str
) -> None:
    folder = tmp_path / "fixture"
    shutil.copytree(shared / "parity" / "vfusion3d_a", folder)
    data = dict(np.load(folder / "data.npz"))
    data[key] = data[key].copy()
    data[key].flat[7] += 0.001
    np.savez(folder / "data.npz", **data)
    code, out, _ = call(str(folder), "--json")
    failed = {name for name, result in json.loads(out)["stages"].items() if not result["passed"]}
    assert code == 1 and failed == {stage} and json.loads(out)["passed"] is False
    assert "FAILED" in call(str(folder))[1]


def test_no_fixture(tmp_path: Path, call: Callable[..., tuple[int, str, str]]) -> None:
    code, out, error = call(str(tmp_path), "--json")
    assert code == 2 and out == "" and "holds no fixture" in error
    (tmp_path / "weights.safetensors").write_bytes(b"x")
    code, out, error = call(str(tmp_path), "--json")
    assert code == 2 and out == "" and error.count("\n") == 1
