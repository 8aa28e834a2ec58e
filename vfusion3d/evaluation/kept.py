"""What a benchmark keeps object by object, so that a run that was cut off goes on, and only with what still holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
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


def kept_or(path: Path | None, truth: str, keys: Collection[str], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """An object of an earlier run, or what is made of it, and kept, instead.

    Args:
        path: Its file; None where nothing is kept.
        truth: What it is measured against.
        keys: What it must have.
        make: Measures it where there is none, it failed or was cut short, or was measured against something else.

    Raises:
        OutputError: if it cannot be written.
    """
    done = None if path is None else _read(path, truth, keys)
    if done is None:
        done = make()
        if path is not None:
            write_atomically(path, json.dumps({"truth": truth, **done}, allow_nan=False).encode())
    return done


def _read(path: Path, truth: str, keys: Collection[str]) -> dict[str, Any] | None:
    try:
        done: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        holds = done.pop("truth") == truth and done["failed"] is None and None not in [done[key] for key in keys]
        return done if holds else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
