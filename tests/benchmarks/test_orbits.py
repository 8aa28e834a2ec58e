"""The script as a user runs it, on two tiny orbits and a random model."""

from __future__ import annotations

import json
import runpy
import shutil
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
from vfusion3d.data.resize import area_resize
from vfusion3d.data.scenes import Scene, SceneInfo, write_scene
from vfusion3d.evaluation.protocol import hash_of
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
    assert list(by_name) == ["emu-10", "emu-20", "true renders", "first frame repeated", "all white"]
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
    white = float(psnr(torch.ones_like(small[1:]), small[1:]).mean())
    assert by_name["all white"]["rows"]["cat"]["psnr"] == pytest.approx(white, abs=1e-2) and white < floor
    assert by_name["all white"]["means"]["loop_closure"] is None  # nothing moves
    text = (output / "report.md").read_text()
    assert "| true renders |  | 100.00 |" in text and "## 16 px\n" in text
    assert "nearest seen object: n/a, fewer than two of the objects are known to have been trained on." in text
    assert report["groups"] == {"all": ["cat", "dog"]}
    assert all(entry["groups"] == {"all": entry["means"]} for entry in report["methods"])

    # What is there is not measured again, unless something it depends on changed.
    kept, changed = (output / "rows" / folder / "cat.json" for folder in ("true-renders-16", "emu-10"))
    before = [file.stat().st_mtime_ns for file in (kept, changed)]
    assert call(*options, "--seed", "1") == 0
    assert kept.stat().st_mtime_ns == before[0] and changed.stat().st_mtime_ns > before[1]


def test_unseen_objects_stand_apart_and_the_seen_ones_are_a_floor(
    place: Path, call: Callable[..., int], tmp_path: Path, capsys: Any
) -> None:
    for k, name in enumerate(("cat", "dog", "jar")):
        cameras = RIG.cameras(0.35)
        images = render(sample_objects(torch.tensor([5 + k])), cameras.unsqueeze(0), 24, 24)[0]
        write_scene(tmp_path / "scenes" / name, straight_pixels(images), cameras, SceneInfo(layout="orbit"))
    (tmp_path / "unseen.txt").write_text("dog\n")
    usual = ["--scenes", str(tmp_path / "scenes"), "--without", "sfm", "match", "--output", str(tmp_path / "out")]
    usual += ["--models", str(place / "models"), "--steps", "1", "--json"]
    assert call(*usual, "--unseen", str(tmp_path / "unseen.txt")) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["groups"] == {"unseen": ["dog"], "seen": ["cat", "jar"]} and report["missing"] == {}
    by_name = {entry["name"]: entry for entry in report["methods"]}
    for entry in report["methods"]:
        rows = {name: row["psnr"] for name, row in entry["rows"].items()}
        assert entry["groups"]["unseen"]["psnr"] == rows["dog"]
        assert entry["groups"]["seen"]["psnr"] == pytest.approx((rows["cat"] + rows["jar"]) / 2)
        assert entry["means"]["psnr"] == pytest.approx(sum(rows.values()) / 3)
    cat, jar = (area_resize(over_white(Scene.load(tmp_path / "scenes" / n).images()), 16, 16) for n in ("cat", "jar"))
    floor = float(psnr(jar[1:], cat[1:]).mean())  # the seen objects have each other
    nearest = by_name["nearest seen object"]["rows"]
    assert nearest["cat"]["psnr"] == pytest.approx(floor, abs=1e-3) == pytest.approx(nearest["jar"]["psnr"], abs=1e-3)
    text = (tmp_path / "out" / "report.md").read_text()
    assert text.index("## 16 px, 1 unseen object\n") < text.index("## 16 px, 2 seen objects\n")
    # Who was seen changes that floor alone.
    rows = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "rows").glob("*/*.json")}
    (tmp_path / "unseen.txt").write_text("cat\n")
    assert call(*usual, "--unseen", str(tmp_path / "unseen.txt")) == 0
    changed = {path.parent.name for path, time in rows.items() if path.stat().st_mtime_ns != time}
    assert len(rows) == 18 and changed == {"nearest-seen-object-16"}


def test_the_report_says_what_decided_its_figures(
    place: Path, call: Callable[..., int], tmp_path: Path, capsys: Any
) -> None:
    ceiling = ["--ceiling", "--limit", "1", "--output", str(tmp_path)]
    models = ["--models", str(place / "models" / "emu-10"), *ceiling[1:]]

    def told(*options: str) -> dict[str, Any]:
        assert call(*options, "--without", "sfm", "match", "--json") == 0
        report: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert report["protocol_hash"] == hash_of(report["protocol"])
        first = (tmp_path / "report.md").read_text().splitlines()[:2]
        assert report["protocol_hash"][:12] in first[0] and "orbits and cameras are unpublished" in first[1]
        return report

    report = told(*models, "--steps", "1")
    protocol = report["protocol"]
    assert protocol["rig"] == {"radius": round(RIG.radius, 2), "fov": 40, "direction": 1, "frames": 16}
    assert (protocol["sizes"], protocol["sampling_steps"], protocol["seed"]) == ([16], 1, 0)
    assert (protocol["without"], protocol["lpips"], protocol["match_limit"]) == (["match", "sfm"], None, None)
    assert {"torch", "diffusers", "device"} <= report["environment"].keys()
    assert told(*models, "--steps", "1")["protocol_hash"] == report["protocol_hash"]
    assert told(*models, "--steps", "1", "--lpips", "random")["protocol"]["lpips"] is None  # no LPIPS, so n/a
    others = [told(*models, "--steps", "2"), told(*models, "--steps", "1", "--seed", "1"), told(*ceiling)]
    assert others[2]["protocol"]["seed"] is None and others[2]["protocol"]["sizes"] == [24]
    assert len({other["protocol_hash"] for other in (report, *others)}) == 4


def test_other_pictures_are_measured_anew(call: Callable[..., int], tmp_path: Path, capsys: Any) -> None:
    found = []
    for seed in (5, 6):  # the same cameras
        cameras = RIG.cameras(0.35)
        images = render(sample_objects(torch.tensor([seed])), cameras.unsqueeze(0), 24, 24)[0]
        shutil.rmtree(tmp_path / "scenes", ignore_errors=True)
        write_scene(tmp_path / "scenes" / "cat", straight_pixels(images), cameras, SceneInfo(layout="orbit"))
        options = ["--scenes", str(tmp_path / "scenes"), "--ceiling", "--without", "sfm", "match"]
        assert call(*options, "--output", str(tmp_path / "out"), "--json") == 0
        methods = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)["methods"]}
        found.append(methods["all white"]["means"]["psnr"])
    assert found[0] != pytest.approx(found[1], abs=1e-3)
    next((tmp_path / "scenes" / "cat").glob("images/*")).unlink()
    assert call(*options, "--output", str(tmp_path / "out")) == 2
    assert "cannot be read (No such file or directory); render the object again" in capsys.readouterr().err


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
    assert list(entries) == ["true renders", "first frame repeated", "all white", "shuffled", "bent"]
    assert {entry["size"] for entry in entries.values()} == {24}
    assert entries["bent"]["means"]["psnr"] < 40 and entries["shuffled"]["means"]["psnr"] < 40
    assert (place / "ceiling" / "rows" / "bent-24" / "cat.png").is_file()


def test_what_cannot_be_used(place: Path, call: Callable[..., int], tmp_path: Path, capsys: Any) -> None:
    assert call("--output", str(tmp_path)) == 2
    assert "give --models, or --ceiling" in capsys.readouterr().err
    assert call("--output", str(tmp_path / "out"), "--ceiling", "--unseen", str(tmp_path / "none.txt")) == 2
    assert "none.txt, cannot be read" in capsys.readouterr().err
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
