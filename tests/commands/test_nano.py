"""The chain's bookkeeping on stages of nothing; the real stages, as short as they can be, in a slow test."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from vfusion3d import cli
from vfusion3d.commands.nano.chain import Chain, Link, Outcome
from vfusion3d.commands.nano.settings import FULL, SHORT, chain_settings, merged
from vfusion3d.errors import OutputError


class Kitchen:
    """Two stages that read each other, and one that reads neither; remembers what it made."""

    def __init__(self, burnt: str | None = None) -> None:
        self.made: list[str] = []
        self.burnt = burnt
        says = ("Dough", "It is kneaded.", 1.0)
        self.links = [
            Link("dough", *says, (), self.make("dough")),
            Link("salad", *says, (), self.make("salad")),
            Link("pizza", *says, ("dough",), self.make("pizza")),
        ]

    def make(self, name):
        def cook(chain, folder, settings, progress):
            (folder / "begun").touch()
            if name == self.burnt:
                raise KeyboardInterrupt
            self.made.append(name)
            return Outcome({"weight": settings["weight"]})

        return cook

    def run(self, folder: Path, **weights: float) -> Chain:
        settings = {link.name: {"weight": weights.get(link.name, 1.0)} for link in self.links}
        chain = Chain(folder, self.links, settings)
        chain.run(quiet=True)
        return chain


def test_what_is_done_is_not_done_again(tmp_path):
    kitchen = Kitchen(burnt="pizza")
    with pytest.raises(KeyboardInterrupt):
        kitchen.run(tmp_path)
    assert kitchen.made == ["dough", "salad"]
    kitchen.burnt = None
    chain = kitchen.run(tmp_path)
    assert kitchen.made == ["dough", "salad", "pizza"] and (chain.folder("pizza") / "begun").exists()
    assert chain.outcome("pizza").figures == {"weight": 1.0}
    kitchen.run(tmp_path, dough=2.0)
    assert kitchen.made[3:] == ["dough", "pizza"]
    kitchen.run(tmp_path)
    assert len(kitchen.made) == 5  # the earlier outcome is still there


def test_a_broken_outcome_is_named(tmp_path):
    chain = Kitchen().run(tmp_path)
    (chain.folder("salad") / "outcome.json").write_text("{")
    with pytest.raises(OutputError, match=r"outcome\.json of an earlier run cannot be read"):
        chain.run(quiet=True)


def test_settings():
    assert FULL.keys() == SHORT.keys()
    before = json.dumps(FULL)
    settings = chain_settings(False, None, None, seed=3)
    assert settings["objects"]["seed"] == 3 and json.dumps(FULL) == before
    assert merged({"a": {"b": 1, "c": 2}, "d": {"e": 3}}, {"a": {"b": 4}, "d": None}) == {
        "a": {"b": 4, "c": 2},
        "d": None,
    }
    other = {"class_path": "b", "init_args": {"y": 2}}
    assert merged({"data": {"class_path": "a", "init_args": {"x": 1}}}, {"data": other}) == {"data": other}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--meshes", "none.glb"], "The mesh file or folder none.glb of --meshes does not exist"),
        (["--video-model", "nobody"], "Unknown video model 'nobody'"),
    ],
)
def test_bad_options(options, sentence, tmp_path, capsys):
    assert cli.main(["nano", "--output", str(tmp_path / "run"), *options]) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1 and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_whole_chain(tmp_path, capsys):
    command = ["nano", "--output", str(tmp_path), "--short", "--json"]
    assert cli.main(command) == 0
    document = json.loads(capsys.readouterr().out)
    stages = document["stages"]
    assert list(stages) == list(FULL)
    rows = {row[0]: row[1:] for row in stages["benchmark"]["tables"][0]["rows"]}
    assert rows.keys() >= {"untrained", "trained on orbits, then on 3D", "all white"}
    assert "trained on as many unfiltered orbits" in rows
    assert all(0 < row[0] < 60 for row in rows.values())
    shards, filtered = stages["shards"]["figures"], stages["filter"]["figures"]
    assert shards["items"] == filtered["kept"] > 0 and shards["of"] == filtered["kept"] + filtered["dropped"]
    page = Path(document["report"]).read_text()
    assert page.count("<img") >= 8 and not re.findall(r"(?:src|href)=\"(?!data:)", page)
    outcomes = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/outcome.json")}
    assert len(outcomes) == len(FULL) and cli.main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/outcome.json")} == outcomes
    assert json.loads(capsys.readouterr().out)["stages"] == stages
