"""LightningCLI recipes that ship with the package (``--config recipes/nano/reconstructor.yaml``)."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent


def find_recipe(name: str) -> Path | None:
    """The packaged file behind ``recipes/...``, or None if there is none."""
    path = ROOT / name.removeprefix("recipes/")
    return path if path.is_file() else None


def list_recipes() -> list[str]:
    """Names that ``--config`` takes."""
    return sorted(f"recipes/{path.relative_to(ROOT).as_posix()}" for path in ROOT.rglob("*.yaml"))
