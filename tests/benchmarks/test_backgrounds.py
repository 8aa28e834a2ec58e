"""The script as a user runs it, on two small scenes, and its figures by hand."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from vfusion3d.cameras import orbit
from vfusion3d.data.scenes import write_scene

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "backgrounds.py"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Two scenes of two views: a disc and a box, with soft edges."""
    for name, shape in (("disc", "ellipse"), ("box", "rectangle")):
        large = Image.new("RGBA", (192, 192), (255, 0, 0, 0))
        getattr(ImageDraw.Draw(large), shape)((50, 40, 150, 160), fill=(255, 0, 0, 255))
        small = np.asarray(large.resize((48, 48), Image.Resampling.BOX))
        write_scene(tmp_path / "scenes" / name, np.stack([small, small[:, ::-1]]), orbit(views=2, elevation=0.3))
    return tmp_path / "scenes"


@pytest.fixture
def call(script: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def run(*options: str) -> int:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *options])
        main: Callable[[], int] = script["main"]
        return main()

    return run


def test_rows_and_means(scenes: Path, call: Callable[..., int], capsys: Any) -> None:
    assert call(str(scenes), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    rows = document["rows"]
    assert len(rows) == 2 * 2 * 3 and {row["object"] for row in rows} == {"disc", "box"}
    for kind, means in document["means"]["heuristic"].items():
        for figure, value in means.items():
            assert value == pytest.approx(np.mean([row[figure] for row in rows if row["backdrop"] == kind]))
    assert document["means"]["heuristic"]["plain"]["iou"] > 0.9
    assert document["means"]["heuristic"]["plain"]["mae"] < 0.05
    assert document["means"]["heuristic"]["plain"]["boundary_f"] > 0.8


def test_table_and_refusals(scenes: Path, call: Callable[..., int], capsys: Any) -> None:
    assert call(str(scenes), "--limit", "1") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("1 objects, 2 views") and [line.split()[1] for line in lines[2:]] == [
        *("plain", "gradient", "photo")
    ]
    assert call(str(scenes / "nowhere")) == 2 and "no scene in" in capsys.readouterr().err
    assert call(str(scenes), "--strategies", "alpha") == 2 and "cannot be measured" in capsys.readouterr().err
    assert call(str(scenes), "--strategies", "rembg") == 2 and "needs the file" in capsys.readouterr().err


def test_backdrops_are_seeded_and_differ(script: dict[str, Any]) -> None:
    backdrop = script["backdrop"]
    for kind in script["BACKDROPS"]:
        first = backdrop(kind, 40, 60, 1)
        assert first.shape == (40, 60, 3) and first.min() >= 0 and first.max() <= 1
        assert np.array_equal(first, backdrop(kind, 40, 60, 1)) and not np.allclose(first, backdrop(kind, 40, 60, 2))
    spread = [backdrop(kind, 40, 60, 3).std((0, 1)).mean() for kind in script["BACKDROPS"]]
    assert spread[0] == pytest.approx(0) and spread[2] > 0.05


def test_boundary_measure_by_hand(script: dict[str, Any]) -> None:
    boundary_f = script["boundary_f"]
    truth = np.zeros((100, 100), dtype=bool)
    truth[20:60, 20:60] = True
    assert boundary_f(truth, truth) == 1
    assert boundary_f(np.roll(truth, 1, axis=0), truth) == 1  # within the tolerance of 1.06 pixels
    assert boundary_f(np.zeros_like(truth), truth) == 0
    half = truth.copy()
    half[20:40] = False
    # 80 of the half's 116 outline pixels are near the truth's outline, and 80 of the truth's 156 near the half's.
    assert boundary_f(half, truth) == pytest.approx(2 * 80 / (116 + 156))


def test_a_strategy_that_finds_nothing_counts(script: dict[str, Any]) -> None:
    truth = np.zeros((48, 48))
    truth[10:30, 10:30] = 1
    row = script["score"](Image.new("RGBA", (48, 48), "white"), truth, "heuristic", None)
    assert (row["iou"], row["nothing"], row["boundary_f"]) == (0, 1, 0)
    assert row["mae"] == pytest.approx(400 / 48**2)
