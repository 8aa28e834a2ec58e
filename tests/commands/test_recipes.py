"""`vfusion3d recipes`."""

from __future__ import annotations

import json

from vfusion3d import cli
from vfusion3d.recipes import find_recipe, list_recipes


def test_list(capsys):
    assert cli.main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list_recipes()
    row = next(line for line in lines if "table4_2_multi_stage" in line)
    assert "+ multi-stage training" in row and row.endswith("[over recipes/paper/pretrain_synthetic.yaml]")
    assert cli.main(["recipes", "list", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == list_recipes()


def test_show(capsys):
    text = find_recipe("recipes/paper/only_3d.yaml").read_text()
    for name in ("recipes/paper/only_3d.yaml", "paper/only_3d.yaml", "paper/only_3d"):
        assert cli.main(["recipes", "show", name]) == 0
        assert capsys.readouterr().out == text
    assert cli.main(["recipes", "show", "paper/only_3d", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["text"] == text and shown["base"] is None


def test_mistakes(capsys):
    assert cli.main(["recipes", "show", "paper/other"]) == 2
    assert "The package has no recipe paper/other; `vfusion3d recipes` lists them." in capsys.readouterr().err
    assert cli.main(["recipes", "show"]) == 2
    assert "No recipe was named" in capsys.readouterr().err
    assert cli.main(["recipes", "list", "paper/only_3d"]) == 2
    assert "is for `vfusion3d recipes show`" in capsys.readouterr().err
