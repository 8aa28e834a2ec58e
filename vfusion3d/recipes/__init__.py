"""LightningCLI recipes that ship with the package (``--config recipes/nano/reconstructor.yaml``)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent


@dataclass(frozen=True)
class Recipe:
    """What a recipe's first comment says of it."""

    name: str
    """``recipes/...yaml``, as ``--config`` takes it."""
    title: str
    """Its first line."""
    base: str | None
    """The recipe that an overlay is laid over, from its line ``# base: ...``; None if it is one itself, or for any."""
    text: str
    """The file."""


def find_recipe(name: str) -> Path | None:
    """The packaged file behind ``recipes/...``, or None if there is none."""
    path = ROOT / name.removeprefix("recipes/")
    return path if path.is_file() else None


def list_recipes() -> list[str]:
    """Names that ``--config`` takes."""
    return sorted(f"recipes/{path.relative_to(ROOT).as_posix()}" for path in ROOT.rglob("*.yaml"))


def read_recipe(name: str) -> Recipe | None:
    """A packaged recipe, or None if there is none; ``paper/only_3d`` means ``recipes/paper/only_3d.yaml``."""
    path = find_recipe(name) or find_recipe(f"{name}.yaml")
    if path is None:
        return None
    text = path.read_text(encoding="utf-8")
    comments = [line.lstrip("# ") for line in text.splitlines() if line.startswith("#")]
    base = next((line.removeprefix("base: ") for line in comments if line.startswith("base: ")), None)
    return Recipe(f"recipes/{path.relative_to(ROOT).as_posix()}", comments[0], base, text)
