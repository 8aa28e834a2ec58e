"""The script on a folder of its own, and on the labelled files where they are."""

from __future__ import annotations

import hashlib
import json
import runpy
import sys
from pathlib import Path

import pytest

from tests.engine.tiny_language import write_lm

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "captions.py"


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(SCRIPT))


@pytest.fixture
def call(script, monkeypatch, capsys):
    def run(*options):
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, options)])
        status = script["main"]()
        return status, capsys.readouterr()

    return run


def test_a_folder_with_labels(script, call, tmp_path, monkeypatch):
    lines = {
        "a.txt": ["a chair", "two dogs", "a tree next to a house", "a fox"],
        "b.tsv": ["row\tcaption", "7\tFox Logo"],
    }
    rows = ["file,line,sha256,split,single_object"]
    for name, number, split, single in (
        ("a.txt", 1, "dev", "yes"),
        ("a.txt", 3, "dev", "yes"),
        ("b.tsv", 2, "held_out", "no"),
    ):
        rows.append(f"{name},{number},{hashlib.sha256(lines[name][number - 1].encode()).hexdigest()},{split},{single}")
    rows += ["gone.txt,1,00,dev,no"]
    for name, content in lines.items():
        (tmp_path / name).write_text("\n".join(content) + "\n")
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join(rows))
    monkeypatch.setitem(script["read_labels"].__globals__, "LABELS", labels)
    status, said = call("--prompts", tmp_path, "--json", "--disagreements", "dev")
    report = json.loads(said.out)
    assert status == 0
    assert report["files"]["a.txt"]["kept_rules"] == 0.5 and report["files"]["a.txt"]["reasons"] == {"several": 2}
    assert report["files"]["b.tsv"]["reasons"] == {"flat": 1}
    agreement = report["agreement"]["rules"]
    assert (agreement["dev"]["accuracy"], agreement["dev"]["recall"], agreement["held_out"]["accuracy"]) == (
        0.5,
        0.5,
        1.0,
    )
    assert [entry["caption"] for entry in report["disagreements"]] == ["a tree next to a house"]
    assert report["missing"] == [f"gone.txt is not in {tmp_path}: its 1 labels are not used."]

    (tmp_path / "a.txt").write_text("a changed chair\ntwo dogs\nthree\n")
    status, said = call("--prompts", tmp_path)
    assert status == 0 and "a.txt differs from the labelled file in line 1: its labels are not used." in said.out
    assert "| a.txt | 3 |" in said.out


def test_a_language_model(call, tmp_path):
    """Beside the rules; a threshold below every margin keeps all."""
    (tmp_path / "a.txt").write_text("a chair\ntwo dogs\n")
    model = write_lm(tmp_path / "lm", places=4096)
    status, said = call("--prompts", tmp_path, "--lm", model, "--threshold", "-1000", "--json")
    assert status == 0 and json.loads(said.out)["files"]["a.txt"]["kept_lm"] == 1.0
    status, said = call("--prompts", tmp_path, "--lm", tmp_path / "gone")
    assert status == 2 and "There is no folder" in said.err.splitlines()[-1]


def test_figures(script):
    label = script["Label"]
    labels = [label("f", row, "", "dev", single) for row, single in enumerate([True, True, True, False])]
    figures = script["agreement"](labels, {"f": [True, True, False, False]})
    assert figures["accuracy"] == 0.75 and figures["precision"] == 1 and figures["recall"] == pytest.approx(2 / 3)
    assert figures["kappa"] == pytest.approx((0.75 - 0.5) / 0.5)  # by chance 3/4 x 1/2 + 1/4 x 1/2
    assert script["agreement"](labels[:3], {"f": [True] * 4})["kappa"] is None


def test_no_tables(call, tmp_path):
    status, said = call("--prompts", tmp_path)
    assert status == 2 and said.err.strip().endswith("give the folder that has them.") and not said.out


def test_the_labelled_files(script, shared):
    """Every label's line is there as it was, and the rules do not get worse unnoticed."""
    folder = shared / "data" / "prompts"
    options = script["parser"]().parse_args(["--prompts", str(folder)])
    report = script["benchmark"](options)
    assert not report["missing"]
    agreement = report["agreement"]["rules"]
    assert [agreement[split]["labels"] for split in script["SPLITS"]] == [300, 100]
    assert all(agreement[split]["kappa"] > 0.5 for split in script["SPLITS"])
