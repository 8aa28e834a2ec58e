"""Objects by what is known of them: never trained on, trained on, or neither; they stand apart in every table."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable

from vfusion3d.data.held_out import read_names
from vfusion3d.errors import UsageError

GROUPS = UNSEEN, SEEN, UNKNOWN, ALL = "unseen", "seen", "unknown", "all"
"""In the order of tables; ``all`` where nothing is known of any object."""


def group_of(name: str, unseen: Collection[str] | None, seen: Collection[str] | None) -> str:
    """Which group an object belongs to; without ``seen`` all that are not ``unseen`` were trained on."""
    if unseen is None:
        return ALL
    if name in unseen:
        return UNSEEN
    return SEEN if seen is None or name in seen else UNKNOWN


def in_order(groups: Iterable[str]) -> list[str]:
    """The groups that there are, the unseen first."""
    there = set(groups)
    return [group for group in GROUPS if group in there]


def read_unseen(path: str | os.PathLike[str], objects: Collection[str]) -> set[str]:
    """Names of objects that were never trained on, from a text file with a name a line.

    Args:
        path: The file.
        objects: Those that are measured.

    Raises:
        UsageError: if it cannot be read, or names none of the objects, so that all would pass as seen.
    """
    names = set(read_names(path, "list of unseen objects"))
    if names.isdisjoint(objects):
        raise UsageError(
            f"The list of unseen objects, {os.fspath(path)}, names none of the {len(objects)} objects, "
            f"{min(objects)} for one; write a name a line, as the objects are called."
        )
    return names


def counted(count: int, group: str) -> str:
    """``66 unseen objects``, and ``3 objects`` where nothing is known of them."""
    return f"{count} {group + ' ' if group != ALL else ''}{'object' if count == 1 else 'objects'}"
