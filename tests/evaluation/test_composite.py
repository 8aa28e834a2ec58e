"""Two test sets in one row."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.test_comparison import results
from vfusion3d.evaluation.clip_scores import ClipProtocol
from vfusion3d.evaluation.composite import CompositeProtocol, composite_rows, composite_table
from vfusion3d.evaluation.protocol import Protocol

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "composite.py"


def write(folder: Path, views: str = "novel-view-32", clip: str = "turntable") -> Path:
    """A run's two results."""
    for part in ("views", "clip"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    results(Protocol.load(views)).save(folder / "views" / "results.json")
    means = {
        "one": {"clip_text": {"value": 0.25}, "clip_image": {"value": 0.8}},
        "two": {"clip_text": None, "clip_image": None},
    }
    floors = {"one": {"all white": {"clip_text": {"value": 0.125}, "clip_image": None}}}
    document = {"protocol_hash": ClipProtocol.load(clip).hash, "objects": 40, "means": means, "floors": floors}
    document["groups"] = {"all": {**document}}
    document |= {"weights": {"one": "of a test"}, "failures": {"cat": "No frames."}}
    (folder / "clip" / "results.json").write_text(json.dumps(document))
    return folder


def test_a_row_is_of_the_unseen_objects_and_both_parts(tmp_path: Path) -> None:
    run = write(tmp_path / "run")
    rows = composite_rows(CompositeProtocol.load("ablation"), run / "views", run / "clip")
    row = rows["unseen"]
    unseen = results(Protocol.load("novel-view-32")).mean("ssim", "unseen")
    assert list(rows) == ["unseen", "seen"]
    assert (row["ssim"], row["objects"], row["clip_objects"]) == (unseen.value, 6, 40)
    assert row["clip"] == {
        "one": {"clip_text": 0.25, "clip_image": 0.8},
        "two": {"clip_text": None, "clip_image": None},
    }
    shown = composite_table({"run": rows})
    assert "| seen objects |" in shown and "| run | 0.800 | 0.300 | 0.250 | 0.800 | n/a | n/a |" in shown
    assert "CLIP scores of run are of all their objects, seen or not." in shown
    assert "run, CLIP: 1 object failed, scored as empty or 0; the first, cat: No frames." in shown
    assert "does not compare" not in shown
    rows["unseen"]["clip_weights"] = {"one": "others"}
    other = composite_rows(CompositeProtocol.load("ablation"), run / "views", run / "clip")
    assert "CLIP does not compare: the runs' networks" in composite_table({"run": rows, "other": other})
    assert "| floor: all white | 0.800 | 0.300 | 0.125 | n/a | n/a | n/a |" in shown


def test_clip_scores_are_of_the_same_group_where_they_keep_it_apart(tmp_path: Path) -> None:
    run = write(tmp_path / "run")
    rows = composite_rows(CompositeProtocol.load("ablation"), run / "views", run / "clip")
    assert rows["unseen"]["clip_group"] == "all"
    document = json.loads((run / "clip" / "results.json").read_text())
    apart = {"one": {"clip_text": {"value": 0.125}, "clip_image": None}}
    document["groups"] = {
        "unseen": {"objects": 15, "means": apart, "floors": {}},
        "seen": {"objects": 25, "means": {}, "floors": {}},
    }
    (run / "clip" / "results.json").write_text(json.dumps(document))
    row = composite_rows(CompositeProtocol.load("ablation"), run / "views", run / "clip")["unseen"]
    assert (row["clip_objects"], row["clip_group"]) == (15, "unseen")
    assert row["clip"] == {"one": {"clip_text": 0.125, "clip_image": None}}


def test_the_script_and_what_it_refuses(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    def call(*options: str) -> int:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *options])
        return runpy.run_path(str(SCRIPT))["main"]()

    run = write(tmp_path / "run")
    assert call(str(run), "--published", "table-6") == 0
    shown = capsys.readouterr().out
    assert "composite protocol ablation" in shown and "are unpublished: figures compare only" in shown
    assert "synthetic only (2.7M)" in shown and "not measured here" in shown
    assert call(str(run), "--json") == 0
    assert json.loads(capsys.readouterr().out)["rows"]["run"]["unseen"]["lpips"] == pytest.approx(0.3)
    other = write(tmp_path / "other", views="gso-orbit")
    (tmp_path / "cut" / "views").mkdir(parents=True)
    (tmp_path / "cut" / "clip").mkdir()
    results(Protocol.load("novel-view-32")).save(tmp_path / "cut" / "views" / "results.json")
    for options, message in (
        ([str(other)], "they are no part of the composite ablation"),
        ([str(tmp_path / "cut")], "There are no results"),
        ([str(run), str(run)], "Two runs are named run"),
        ([str(run), "--protocol", "mine"], "There is no "),
    ):
        assert call(*options) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "cut" / "clip" / "results.json").write_text('{"means": ')
    assert call(str(tmp_path / "cut")) == 2
    assert "cannot be read" in capsys.readouterr().err
    whole = json.loads((run / "clip" / "results.json").read_text())
    for damage in (
        {"groups": {"unseen": {}}},
        {"means": None},
        {"protocol_hash": None},
        {"weights": 3},
        {"means": {"one": None}},
        {"objects": None},
    ):
        (tmp_path / "cut" / "clip" / "results.json").write_text(json.dumps({**whole, **damage}))
        assert call(str(tmp_path / "cut")) == 2
        assert "run benchmarks/clip.py again" in capsys.readouterr().err
