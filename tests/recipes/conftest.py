"""The parser of `vfusion3d plan`, built once."""

from __future__ import annotations

import sys

import pytest

from vfusion3d import cli
from vfusion3d.recipes import find_recipe, list_recipes, read_recipe

PRETRAIN = "recipes/paper/pretrain_synthetic.yaml"


@pytest.fixture(scope="session")
def plan_parser():
    """LightningCLI's own parser, as it was when it parsed a recipe."""
    from vfusion3d.commands import train

    found = []
    patch = pytest.MonkeyPatch()
    patch.setattr(sys, "argv", ["vfusion3d"])
    patch.setattr(train, "show_plan", lambda parser, config: found.append(parser))
    try:
        assert cli.main(["plan", "--config", "recipes/nano/reconstructor.yaml"]) == 0
    finally:
        patch.undo()
    return found[0]


def stack(name: str) -> list[str]:
    """A recipe below its base, as names; overlays for any go over the pre-training that they are made for."""
    recipe = read_recipe(name)
    assert recipe is not None
    base = recipe.base
    if name.startswith(("recipes/overlays/", "recipes/hardware/")):
        base = "recipes/nano/pretrain_synthetic.yaml" if name.endswith("two_cpu_cores.yaml") else PRETRAIN
    return [name] if base is None else [base, name]


def options(names: list[str]) -> list[str]:
    """Command-line options of recipes laid over each other."""
    return [option for name in names for option in ("--config", str(find_recipe(name)))]


EVERY = [name for name in list_recipes() if "/engine/" not in name]  # those: tests/engine/test_generate.py
