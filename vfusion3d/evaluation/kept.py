"""What a benchmark keeps object by object, so that a run that was cut off goes on, and only with what still holds."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from vfusion3d.errors import UsageError
from vfusion3d.outputs import write_atomically


def claim(output: Path, facts: dict[str, Any]) -> None:
    """Write what the folder's objects are of, or check it.

    Raises:
        UsageError: if it is something else.
    """
    path = output / "run.json"
    if not path.is_file():
        write_atomically(path, json.dumps(facts).encode())
        return
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"The file {path} cannot be read ({error}); remove the folder {output}.") from error
    if there != facts:
        known = there if isinstance(there, dict) else {}
        key = next((key for key in facts if known.get(key) != facts[key]), "version")
        raise UsageError(
            f"The folder {output} has objects of another {key} ({known.get(key)}, not {facts.get(key)}); choose "
            "another --output, or remove it."
        )


def read_kept(path: Path | None, truth: str, keys: Collection[str]) -> dict[str, Any] | None:
    """An object of an earlier run.

    Args:
        path: Its file; None where nothing is kept.
        truth: What it was measured against.
        keys: What it must have.

    Returns:
        None if there is none, it failed or was cut short, or was measured against something else.
    """
    if path is None:
        return None
    try:
        done: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        holds = done.pop("truth") == truth and done["failed"] is None and None not in [done[key] for key in keys]
        return done if holds else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def keep(path: Path | None, truth: str, done: dict[str, Any]) -> dict[str, Any]:
    """Write what was measured of an object, all or nothing, where anything is kept; returns it."""
    if path is not None:
        write_atomically(path, json.dumps({"truth": truth, **done}, allow_nan=False).encode())
    return done
