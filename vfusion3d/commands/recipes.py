"""`vfusion3d recipes`: the recipes that ship with the package."""

from __future__ import annotations

import json
from typing import Any

from jsonargparse import ArgumentParser

from vfusion3d.errors import UsageError
from vfusion3d.outputs import say
from vfusion3d.recipes import Recipe, list_recipes, read_recipe


def build_parser() -> ArgumentParser:
    """Arguments of the command."""
    parser = ArgumentParser(
        prog="vfusion3d recipes",
        description="List the recipes that ship with the package, one line each, or print one. Overlays name the "
        "recipe they are laid over. Examples: vfusion3d recipes; vfusion3d recipes show paper/pretrain_synthetic",
    )
    add = parser.add_argument
    add("action", nargs="?", choices=["list", "show"], default="list", help="list all, or show the one named")
    add("name", nargs="?", metavar="NAME", help="of the recipe to show, e.g. recipes/paper/only_3d.yaml")
    add("--json", action="store_true", help="print one JSON document on standard output")
    return parser


def run(args: Any) -> int:
    """List or show.

    Raises:
        UsageError: if there is no such recipe.
    """
    if args.action == "show":
        recipe = None if args.name is None else read_recipe(args.name)
        if recipe is None:
            named = "No recipe was named" if args.name is None else f"The package has no recipe {args.name}"
            raise UsageError(f"{named}; `vfusion3d recipes` lists them.")
        say(json.dumps({**_row(recipe), "text": recipe.text}) if args.json else recipe.text.rstrip("\n"))
        return 0
    if args.name is not None:
        raise UsageError(f"Argument {args.name!r} is for `vfusion3d recipes show`; leave it out to list all.")
    recipes = [recipe for recipe in map(read_recipe, list_recipes()) if recipe is not None]
    if args.json:
        say(json.dumps([_row(recipe) for recipe in recipes]))
        return 0
    width = max(len(recipe.name) for recipe in recipes)
    for recipe in recipes:
        over = f" [over {recipe.base}]" if recipe.base else ""
        say(f"{recipe.name:<{width}}  {recipe.title}{over}")
    return 0


def _row(recipe: Recipe) -> dict[str, str | None]:
    return {"name": recipe.name, "title": recipe.title, "base": recipe.base}
