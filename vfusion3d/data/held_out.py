"""Which meshes are kept out of training."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from random import Random

from vfusion3d.errors import UsageError


def split_by_group(
    manifest: Iterable[Mapping[str, str]], fraction: float = 0.2, seed: int = 0
) -> tuple[list[str], list[str]]:
    """Split meshes so that no held-out object has a sibling in training.

    Held out are all ``gso_*`` meshes (the benchmark's objects), every mesh whose group occurs among them, and
    then whole groups, in a random order, up to a fraction of what remains.

    Args:
        manifest: Rows with the columns ``name`` and ``group``, as `csv.DictReader` gives them.
        fraction: Largest share of the other meshes that is held out too.
        seed: Decides the order of the groups.

    Returns:
        Names for training and held-out names, each sorted.

    Raises:
        ValueError: if a row has no ``name`` or ``group``, or a name occurs twice.

    Example:
        >>> rows = [{"name": n, "group": g} for n, g in [("gso_mug", "mug"), ("ycb_mug", "mug"), ("car", "car")]]
        >>> split_by_group(rows, fraction=0.0)
        (['car'], ['gso_mug', 'ycb_mug'])
    """
    groups: dict[str, str] = {}
    for row in manifest:
        name, group = row.get("name"), row.get("group")
        if not name or not group:
            raise ValueError(f"Every row of argument `manifest` needs a `name` and a `group`, but got {dict(row)}.")
        if name in groups:
            raise ValueError(f"Argument `manifest` names {name!r} twice.")
        groups[name] = group
    benchmark = {group for name, group in groups.items() if name.startswith("gso_")}
    rest = sorted(name for name, group in groups.items() if group not in benchmark)
    order = sorted({groups[name] for name in rest})
    Random(seed).shuffle(order)
    held_groups, count = set(benchmark), 0
    for group in order:
        size = sum(groups[name] == group for name in rest)
        if count + size <= fraction * len(rest):
            held_groups.add(group)
            count += size
    held_out = sorted(name for name, group in groups.items() if group in held_groups)
    return sorted(set(groups) - set(held_out)), held_out


def excluded_names(exclude: Iterable[str] | str | None) -> set[str]:
    """Names that a data module's ``exclude`` means: themselves, or the lines of a text file.

    Raises:
        UsageError: if the file cannot be read.
    """
    if not isinstance(exclude, str):
        return set(exclude or ())
    return set(read_names(exclude, "list of scenes to exclude"))


def read_names(path: str | os.PathLike[str], what: str) -> list[str]:
    """The lines of a text file that are not empty.

    Args:
        path: The file.
        what: What it is, for the error.

    Raises:
        UsageError: if it cannot be read.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The {what}, {os.fspath(path)}, cannot be read ({error}).") from error
    return [line.strip() for line in lines if line.strip()]


def names_hash(names: Sequence[str]) -> str:
    """SHA-256 over the sorted names, one per line, in hexadecimal: what a model card quotes."""
    return hashlib.sha256("".join(f"{name}\n" for name in sorted(names)).encode()).hexdigest()
