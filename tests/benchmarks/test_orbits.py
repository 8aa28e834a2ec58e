"""The script as a user runs it, on two tiny orbits and a random model."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from vfusion3d.alpha import over_white, straight_pixels
from vfusion3d.cameras import Rig, fit_radius
from vfusion3d.data.procedural import sample_objects
from vfusion3d.data.raycast import render
from vfusion3d.data.scenes import Scene, SceneInfo, write_scene
from vfusion3d.metrics import psnr
from vfusion3d.video import create_backbone
from vfusion3d.video.trainable import choose_trainable
from vfusion3d.video.trained import VideoModelConfig, save_video_model

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "orbits.py"
RIG = Rig(round(fit_radius(40.0), 4), 40.0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes, and two models of a folder that differ in how long they were trained."""
    place = tmp_path_factory.mktemp("orbits")
    for k, name in enumerate(("cat", "dog")):
        cameras = RIG.cameras(0.35)
        images = render(sample_objects(torch.tensor([5 + k])), cameras.unsqueeze(0), 24, 24)[0]
        write_scene(place / "scenes" / name, straight_pixels(images), cameras, SceneInfo(layout="orbit"))
    torch.manual_seed(0)
    backbone = create_backbone("emu", "tiny")
    choose_trainable(backbone, "all")
    for steps in (10, 20):
        config = VideoModelConfig("emu", "tiny", "all", RIG, 16, steps=steps)
        save_video_model(backbone, place / "models" / f"emu-{steps}", config)
    return place


@pytest.fixture
def call(place: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def run(*options: str) -> int:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--scenes", str(place / "scenes"), *options])
        main: Callable[[], int] = runpy.run_path(str(SCRIPT))["main"]
        return main()

    return run


def test_models_beside_ceiling_and_floor(place: Path, call: Callable[..., int], capsys: Any) -> None:
    output = place / "out"
    options = ["--models", str(place / "models"), "--output", str(output), "--steps", "1", "--without", "sfm", "match"]
    assert call(*options, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["objects"] == ["cat", "dog"] and report == json.loads((output / "report.json").read_text())
    by_name = {entry["name"]: entry for entry in report["methods"]}
    assert list(by_name) == ["emu-10", "emu-20", "true renders", "first frame repeated"]
    assert [by_name[f"emu-{steps}"]["steps"] for steps in (10, 20)] == [10, 20]
    for entry in report["methods"]:
        assert entry["size"] == 16 and entry["means"]["lpips"] is None and entry["means"]["match_score"] is None
        rows = [row["psnr"] for row in entry["rows"].values()]
        assert entry["means"]["psnr"] == pytest.approx(sum(rows) / 2)
    assert by_name["true renders"]["means"]["psnr"] == pytest.approx(100)
    assert by_name["true renders"]["means"]["deformation"] == pytest.approx(0, abs=1e-6)
    # The floor by hand: 24 pixels are 16 means over 1.5.
    true = over_white(Scene.load(place / "scenes" / "cat").images())
    small = torch.nn.functional.interpolate(
        true.repeat_interleave(2, -1).repeat_interleave(2, -2), [16, 16], mode="area"
    )
    floor = float(psnr(small[:1].expand(15, -1, -1, -1), small[1:]).mean())
    assert by_name["first frame repeated"]["rows"]["cat"]["psnr"] == pytest.approx(floor, abs=1e-2)
    assert Image.open(output / "quality.png").width > 100
    assert "| true renders |  | 100.00 |" in (output / "report.md").read_text()

    # What is there is not measured again, unless something it depends on changed.
    kept, changed = (output / "rows" / folder / "cat.json" for folder in ("true-renders-16", "emu-10"))
    before = [file.stat().st_mtime_ns for file in (kept, changed)]
    assert call(*options, "--seed", "1") == 0
    assert kept.stat().st_mtime_ns == before[0] and changed.stat().st_mtime_ns > before[1]


def test_the_ceiling_needs_no_model(place: Path, call: Callable[..., int], capsys: Any) -> None:
    options = [
        "--ceiling",
        "--controls",
        "--without",
        "sfm",
        "match",
        "--limit",
        "1",
        "--output",
        str(place / "ceiling"),
    ]
    assert call(*options, "--json") == 0
    entries = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)["methods"]}
    assert list(entries) == ["true renders", "first frame repeated", "shuffled", "bent"]
    assert {entry["size"] for entry in entries.values()} == {24}
    assert entries["bent"]["means"]["psnr"] < 40 and entries["shuffled"]["means"]["psnr"] < 40
    assert (place / "ceiling" / "rows" / "bent-24" / "cat.png").is_file()


def test_what_cannot_be_used(place: Path, call: Callable[..., int], tmp_path: Path, capsys: Any) -> None:
    assert call("--output", str(tmp_path)) == 2
    assert "give --models, or --ceiling" in capsys.readouterr().err
    assert call("--output", str(tmp_path), "--models", str(place / "scenes")) == 2
    assert "is no video model and holds none" in capsys.readouterr().err
    model = place / "models" / "emu-10" / "video.json"
    other = tmp_path / "models" / "other" / "video.json"
    other.parent.mkdir(parents=True)
    document = json.loads(model.read_text())
    other.write_text(json.dumps({**document, "rig": {**document["rig"], "direction": -1}}))
    assert call("--output", str(tmp_path / "out"), "--models", str(other.parent)) == 2
    assert "The model other was trained on orbits of the Rig" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
