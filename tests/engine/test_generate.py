"""`vfusion3d generate`: a configuration and a table, to a run's folder."""

from __future__ import annotations

import json
import re

import pytest

from vfusion3d.cli import main
from vfusion3d.commands.generate import config_parser
from vfusion3d.recipes import list_recipes, read_recipe

CONFIG = """
unit: 4
steps:
  - stage: {class_path: tests.engine.fakes.Draw, init_args: {seed: 3}}
    batch_size: 2
  - stage: {class_path: tests.engine.fakes.Picture, init_args: {share: 0.0}}
    where: number > 0
    workers: 2
    gpus: 0.5
"""


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "engine.yaml").write_text(CONFIG)
    (tmp_path / "prompts.csv").write_text(
        "id,prompt\n" + "".join(f"x{k},{'bad' if k == 2 else 'a cup'}\n" for k in range(6))
    )
    return tmp_path


def generate(*arguments, config="engine.yaml", items="prompts.csv"):
    return main(["generate", "--config", config, "--items", items, "--output", "run", *arguments])


def test_a_plugin_of_ones_own_runs_and_goes_on(files, capsys):
    assert generate("--limit", "5") == 0
    shown = capsys.readouterr()
    assert "x2: draw: It is bad." in shown.err and "picture (2/2): 100%" in shown.err
    assert shown.out.splitlines()[0].split() == ["stage", "done", "failed", "skipped", "left", "items/s", "GPU-hours"]
    assert [line.split()[:5] for line in shown.out.splitlines()[1:3]] == [
        ["draw", "4", "1", "0", "0"], ["picture", "4", "0", "1", "0"],
    ]  # fmt: skip
    assert (files / "run" / "engine.yaml").read_text() == CONFIG
    assert "It is bad." in (files / "run" / "report.html").read_text()  # also of what are no pictures
    assert generate("--plan", "--json") == 0
    planned = json.loads(capsys.readouterr().out)
    assert [stage["left"] for stage in planned["stages"]] == [1, 0] and planned["items"] == 6
    assert generate("--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert [stage["done"] for stage in report["stages"]] == [5, 5] and report["failed"] == 1
    assert report["stages"][1]["gpu_hours"] == pytest.approx(report["stages"][1]["seconds"] / 7200, abs=1e-5)
    assert report["stages"][0]["settings"] == {"seed": 3} and report["versions"]["pyarrow"]


def test_one_item(files, capsys):
    assert (
        main(["generate", "--config", "engine.yaml", "--items", "prompts.csv", "--output", "one", "--only", "x1"]) == 0
    )
    item = json.loads((files / "one" / "item.json").read_text())
    assert item["prompt"] == "a cup" and (files / "one" / item["image"]).stat().st_size == 64
    assert generate("--only", "x2") == 2 and "draw: It is bad." in capsys.readouterr().out
    assert generate("--only", "none") == 2 and "There is no item 'none'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty; list the steps"),
        ("steps: []", "has no steps; list at least one"),
        ("steps: [{stage: {class_path: no.such.Stage}}]", "No module named 'no'"),
        ("steps: [{stage: {class_path: tests.engine.fakes.Draw, init_args: {sed: 1}}}]", "'sed' is not accepted"),
        ("steps: [{stage: {class_path: tests.engine.fakes.Draw}, batch: 1}]", "'batch' is not accepted"),
        ("steps: [{stage: {class_path: tests.engine.fakes.Draw}, gpus: -1}]", "`gpus` of draw must be at least 0"),
        ("steps: [{stage: {class_path: vfusion3d.engine.Step}}]", "does not correspond to a subclass of Stage"),
        ("steps: [{stage: {class_path: tests.engine.fakes.Double}}]", "has no column 'number', but id, prompt"),
        ("unit: 0\nsteps: [{stage: {class_path: tests.engine.fakes.Draw}}]", "`unit` must be at least 1, but got 0"),
        (CONFIG.replace("number >", "nmber >"), "there is no column 'nmber'"),
    ],
)  # fmt: skip
def test_bad_configurations(files, capsys, text, words):
    (files / "engine.yaml").write_text(text)
    assert generate() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("vfusion3d generate: ") and words in line and not (files / "run").exists()


def test_bad_options(files, capsys):
    for arguments, words in (
        ({"config": "none.yaml"}, "configuration none.yaml does not exist; `vfusion3d recipes` lists those"),
        ({"items": "none.csv"}, "table of items none.csv does not exist"),
    ):
        assert generate(**arguments) == 2 and words in capsys.readouterr().err
    assert generate("--limit", "0") == 2 and "`limit` must be at least 1, but got 0" in capsys.readouterr().err
    (files / "run").touch()
    assert generate() == 2 and "a file is in the way where a folder is needed" in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name in list_recipes() if "/engine/" in name])
def test_recipes_parse_and_are_commented(name):
    recipe = read_recipe(name)
    parsed = config_parser().parse_string(recipe.text)  # some stages cannot be built without their models
    assert parsed.unit > 0 and len(parsed.steps) > 1 and recipe.title.endswith((".", ":"))
    lines = [line for line in recipe.text.splitlines() if re.match(r" *[\w+]+: +[^\s#]", line)]
    assert not [line for line in lines if "#" not in line and "class_path" not in line]
