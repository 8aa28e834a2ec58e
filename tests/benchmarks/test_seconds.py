"""The benchmark of an asset's steps, with the smallest model there is."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from vfusion3d import ReconstructorConfig, TriplaneReconstructor

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
    assert steps["whole"]["seconds"] == pytest.approx(parts) and steps["whole"]["peak_gib"] > 0.1


def test_no_such_picture(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "/nowhere.png"])
    assert runpy.run_path(str(SCRIPT))["main"]() == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("seconds.py: ")
