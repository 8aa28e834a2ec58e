"""The benchmark of an asset's steps, with the smallest model there is."""

from __future__ import annotations

import json
import os
import runpy
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from vfusion3d import ReconstructorConfig, TriplaneReconstructor

RESETS_PEAKS = os.access("/proc/self/clear_refs", os.W_OK)
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "seconds.py"


def test_every_step_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    config = ReconstructorConfig.preset("tiny", density_sphere_slope=200.0, density_sphere_radius=0.5)
    TriplaneReconstructor(config).save_pretrained(tmp_path / "model")
    picture = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(picture).ellipse((12, 12, 52, 52), fill="red")
    picture.save(tmp_path / "ball.png")
    small = ["--frames", "2", "--size", "16", "--lattice", "16", "--faces", "200", "--repeats", "1"]
    arguments = [str(tmp_path / "ball.png"), "--model", str(tmp_path / "model"), "--device", "cpu", *small]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments, "--json"])
    assert runpy.run_path(str(SCRIPT))["main"]() == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert list(results) == ["fp32", "bf16"]
    steps = results["fp32"]
    assert list(steps) == [
        "read", "encode", "encode and decode", "render 2 x 16^2", "mesh 16^3", "texture", "write", "whole",
    ]  # fmt: skip
    parts = sum(step["seconds"] for name, step in steps.items() if name not in ("whole", "encode"))
    assert steps["whole"]["seconds"] == pytest.approx(parts)
    peaks = [step["peak_gib"] for name, step in steps.items() if name != "whole"]
    if RESETS_PEAKS:
        assert min(peaks) > 0.1 and steps["whole"]["peak_gib"] == max(peaks)
    else:
        assert not any(peaks) and steps["whole"]["peak_gib"] is None


@pytest.mark.skipif(not RESETS_PEAKS, reason="needs Linux")
def test_memory_is_that_of_the_step() -> None:
    clock = runpy.run_path(str(SCRIPT))["Clock"](torch.device("cpu"), 2)
    clock("before", lambda: None)
    clock("large", lambda: float(torch.ones(300 * 2**18).sum()))  # 300 MiB, written and given back
    clock("after", lambda: None)
    before, large, after = (clock.steps[name]["peak_gib"] for name in ("before", "large", "after"))
    assert 0.2 < large - before < 0.5 and large - after > 0.2


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_memory_that_cannot_be_told(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("clear_refs")

    if device == "cpu":
        monkeypatch.setattr(Path, "write_text", refuse)
    clock = runpy.run_path(str(SCRIPT))["Clock"](torch.device(device), 1)
    assert clock("add", lambda: 1 + 1) == 2
    assert clock.steps["add"]["peak_gib"] is None and clock.steps["add"]["seconds"] >= 0


def test_no_such_picture(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "/nowhere.png"])
    assert runpy.run_path(str(SCRIPT))["main"]() == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("seconds.py: ")
