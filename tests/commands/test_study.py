"""``vfusion3d study`` without a browser: what it refuses, in one sentence, and what it tells."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from tests.study.turntables import write_study
from vfusion3d.cli import main
from vfusion3d.study import Study, Votes, find_pairs


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path, Path]:
    return write_study(tmp_path_factory.mktemp("study"), ("cup", "owl"))


@pytest.fixture
def voted(folders, tmp_path) -> Path:
    study = Study(find_pairs(*folders), ("ours", "theirs"), checks=0)
    votes = Votes(tmp_path / "votes.db", study.design)
    for question in ("quality", "faithfulness"):
        votes.add("anna", 0, question, "a", "left")
        votes.add("anna", 1, question, "b", "left")
    return votes.path


def refused(capsys, *arguments: object) -> str:
    assert main(["study", *map(str, arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    return captured.err.removeprefix("vfusion3d study: ").strip()


def test_report_and_csv(voted, folders, tmp_path, capsys):
    ours, theirs, pictures = folders
    assert main(["study", "--votes", str(voted), "--report", "--csv", str(tmp_path / "votes.csv")]) == 0
    out = capsys.readouterr().out
    assert "ours against theirs: 2 pairs, 1 rater, 4 votes, 1 per pair and question." in out
    assert "quality: ours wins 1 of 2 pairs, 50.0%" in out and out.endswith("votes.csv: 4 votes.\n")
    with open(tmp_path / "votes.csv", newline="") as file:
        assert [row["choice"] for row in csv.DictReader(file)] == ["ours", "ours", "theirs", "theirs"]
    assert main(["study", *map(str, (ours, theirs)), "--inputs", str(pictures), "--checks", "0", "--votes", str(voted),
                 "--report", "--json"]) == 0  # fmt: skip
    assert json.loads(capsys.readouterr().out)["winners"][0]["rate"] == 0.5


def test_what_is_refused(voted, folders, tmp_path, capsys):
    ours, theirs, pictures = folders
    both = (ours, theirs, "--inputs", pictures)
    assert "--votes is missing" in refused(capsys, *both)
    assert "The folders are missing" in refused(capsys, "--votes", voted)
    assert "B_DIR is missing" in refused(capsys, ours, "--votes", voted)
    assert "--inputs is missing" in refused(capsys, ours, theirs, "--votes", voted)
    assert "go with A_DIR and B_DIR" in refused(capsys, "--votes", voted, "--report", "--checks", 2)
    assert "--json goes with --report" in refused(capsys, *both, "--votes", voted, "--json")
    assert "--threshold must be between" in refused(capsys, "--votes", voted, "--report", "--threshold", 7)
    assert "--seed must be a 64-bit number" in refused(capsys, *both, "--votes", voted, "--seed", 2**63)
    assert "are those of another study" in refused(capsys, *both, "--votes", voted, "--checks", 1)
    assert "There are no votes in" in refused(capsys, *both, "--votes", tmp_path / "none.db", "--report")
    assert not (tmp_path / "none.db").exists()
    names = ("--checks", 0, "--names", "x", "y")
    assert "name the methods ours and theirs" in refused(capsys, *both, "--votes", voted, *names)
    assert "is no file of votes" in refused(capsys, *both, "--votes", pictures / "cup.png")
    assert "no videos" in refused(capsys, pictures, theirs, "--inputs", pictures, "--votes", voted)
    name = ("--checks", 0, "--rater", "../anna")
    assert "'../anna' cannot be used" in refused(capsys, *both, "--votes", voted, *name)
    shutil.copytree(ours, tmp_path / "cut")
    (tmp_path / "cut" / "owl.mp4").unlink()
    message = refused(capsys, tmp_path / "cut", theirs, "--inputs", pictures, "--votes", voted)
    assert message.startswith("There is no video of 'owl' in")
    for path in (tmp_path / "cut").iterdir():  # broken behind their first bytes
        path.write_bytes(path.read_bytes()[:100])
    (tmp_path / "cut" / "owl.mp4").write_bytes((ours / "owl.mp4").read_bytes()[:100])
    new = (tmp_path / "cut", theirs, "--inputs", pictures, "--votes", tmp_path / "new.db", "--checks", 1)
    assert "cannot be decoded" in refused(capsys, *new)
