"""The script of surfaces as a user runs it: true meshes, a prediction less, a checkpoint."""

# ruff: noqa: F811 - fixtures of other files

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.test_gso import call, work  # noqa: F401 - fixtures
from tests.meshes.conftest import can_draw  # noqa: F401 - a fixture


@pytest.fixture
def usual(work: Path) -> list[str]:
    """Options of every run."""
    cache = ["--cache", str(work / "cache"), "--workers", "1", "--device", "cpu"]
    return ["--meshes", str(work / "meshes"), *cache, "--protocol", str(work / "small.yaml")]


def test_true_meshes_are_perfect_under_each_alignment(
    work: Path,
    usual: list[str],
    call: Callable[..., int],
    capsys: Any,
) -> None:
    true = ["--predicted-meshes", str(work / "meshes"), "--predicted-scale", "fit"]
    assert call("shapes.py", *usual, *true, "--limit", "1", "--json") == 0
    means = json.loads(capsys.readouterr().out)["means"]
    assert means["method"]["all"]["none"]["chamfer"]["value"] < 1e-6
    for alignment, figures in means["method"]["all"].items():  # they move even a true mesh by a sampling's breadth
        assert figures["chamfer"]["value"] < 0.01 and figures["f_score"]["value"] == 1
        assert means["ball of radius 0.5"]["all"][alignment]["f_score"]["value"] < 0.9
    assert call("shapes.py", *usual, *true, "--predicted-up", "z", "--alignments", "none", "--json") == 0
    assert json.loads(capsys.readouterr().out)["means"]["method"]["all"]["none"]["f_score"]["value"] < 0.9


def test_a_prediction_less_is_a_failure_and_tried_again(
    work: Path,
    usual: list[str],
    call: Callable[..., int],
    capsys: Any,
) -> None:
    (work / "predicted").mkdir()
    (work / "predicted" / "small.glb").write_bytes((work / "meshes" / "small.glb").read_bytes())
    given = ["--predicted-meshes", str(work / "predicted"), "--predicted-scale", "fit", "--alignments", "none"]
    for _ in range(2):  # the second goes on with what the first kept
        assert call("shapes.py", *usual, *given, "--output", str(work / "out")) == 0
        shown = capsys.readouterr().out
        assert "1 object failed, scored as 2, 0 and 0; the first, large: There is no mesh of object large" in shown
    document = json.loads((work / "out" / "shapes.json").read_text())
    rows = {row["object"]: row for row in document["rows"]["method"]}
    assert (rows["large"]["chamfer"], rows["large"]["f_score"], rows["small"]["f_score"]) == (2, 0, 1)
    assert document["protocol_hash"][:12] in shown and "vtk" in document["environment"]
    (work / "unseen.txt").write_text("small\n")
    assert call("shapes.py", *usual, *given, "--unseen", str(work / "unseen.txt"), "--output", str(work / "out")) == 0
    shown = capsys.readouterr().out
    assert "| 1 unseen object |" in shown and "| 1 seen object |" in shown and "floor: nearest seen object" in shown


def test_a_checkpoint_knows_what_it_has_seen(
    work: Path,
    usual: list[str],
    call: Callable[..., int],
    capsys: Any,
) -> None:
    model = ["--model", str(work / "model"), "--alignments", "none", "--json"]
    assert call("shapes.py", *usual, *model) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["objects"] == {"unseen": 1, "seen": 1} and "rows" not in document
    assert document["means"]["nearest seen object"]["unseen"]["none"]["chamfer"]["value"] < 1e-6  # a larger self


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--predicted-images", "."], "Only checkpoints and meshes have surfaces"),
        (["--threshold", "0"], "Option --threshold must be positive, but got 0"),
        (["--threshold", "nan"], "Option --threshold must be positive, but got nan"),
        (["--limit", "0"], "--limit must be at least 1"),
        (["--unseen", "nowhere.txt"], "nowhere.txt, cannot be read"),
    ],
)
def test_bad_options(
    work: Path,
    usual: list[str],
    call: Callable[..., int],
    capsys: Any,
    options: list[str],
    message: str,
) -> None:
    model = [] if options[0] == "--predicted-images" else ["--model", str(work / "model")]
    assert call("shapes.py", *usual, *model, *options) == 2
    said = capsys.readouterr().err
    assert message in said.splitlines()[-1] and not (work / "cache").exists()  # before anything is rendered
