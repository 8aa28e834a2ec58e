"""The script as a user runs it, on two small scenes and a random model."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vfusion3d import TriplaneReconstructor
from vfusion3d.alpha import straight_pixels
from vfusion3d.cameras import orbit
from vfusion3d.data.procedural import sample_objects
from vfusion3d.data.raycast import render
from vfusion3d.data.scenes import SceneInfo, write_scene

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "held_out.py"


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Three scenes of four views, one of which the model has seen."""
    for k, name in enumerate(("cat", "dog", "seen")):
        cameras = orbit(views=4, elevation=0.35)
        images = render(sample_objects(torch.tensor([k])), cameras.unsqueeze(0), 24, 24)[0]
        info = SceneInfo(layout="benchmark")
        write_scene(tmp_path / "scenes" / name, straight_pixels(images), cameras, info)
    model = TriplaneReconstructor("tiny")
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "held_out.txt").write_text("cat\ndog\n")
    return tmp_path


@pytest.fixture
def call(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def run(*options: str) -> int:
        arguments = [str(scenes / "scenes"), "--model", str(scenes / "model"), *options]
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
        main: Callable[[], int] = runpy.run_path(str(SCRIPT))["main"]
        return main()

    return run


def test_figures_and_floors(scenes: Path, call: Callable[..., int], capsys: Any) -> None:
    assert call("--json", "--all", "--sheet", str(scenes / "sheet.png")) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document["rows"]["unseen"]) == ["cat", "dog"] and list(document["rows"]["seen"]) == ["seen"]
    for kind, count in (("unseen", 2), ("seen", 1)):
        for method, means in document["means"][kind].items():
            rows = [row[method] for row in document["rows"][kind].values()]
            assert len(rows) == count
            for key, value in means.items():
                assert value == pytest.approx(np.mean([row[key] for row in rows]))
    # The floor by hand: white against the three other views, per picture.
    values = []
    for k in (1, 2, 3):
        rgba = np.asarray(Image.open(scenes / "scenes" / "cat" / "images" / f"{k:03d}.png")).astype(float) / 255
        seen = rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]
        values.append(-10 * np.log10(((1 - seen) ** 2).mean()))
    white = document["rows"]["unseen"]["cat"]["all white"]
    assert white["psnr"] == pytest.approx(np.mean(values), abs=1e-3) and white["iou"] == 0
    assert Image.open(scenes / "sheet.png").size[1] == 2 * 24


def test_chosen_objects(scenes: Path, call: Callable[..., int], capsys: Any) -> None:
    assert call("--json", "--only", "dog") == 0
    assert list(json.loads(capsys.readouterr().out)["rows"]["unseen"]) == ["dog"]
    assert call("--only", "dog", "seen") == 2  # not one of the unseen
    assert "No scene to score" in (error := capsys.readouterr().err) and "is named seen; check --only" in error
    assert call("--limit", "0") == 2
