"""A line per unit of what a step did: what a later run need not look at again, and what a report adds up."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from vfusion3d.outputs import output_errors

JOURNAL = "units.jsonl"


@dataclass
class Entry:
    """Where a unit stood when a process left it.

    The results themselves say what is done; a line that is lost costs a look at them, and its seconds.
    """

    unit: int
    state: str
    """`Store.digest` then; another one now means that there is more to do, or to count."""
    done: int
    errors: dict[str, str] = field(default_factory=dict)
    """Why, by id."""
    skipped: int = 0
    left: int = 0
    """Items that were not done then."""
    items: int = 0
    """Items that were worked on since the entry before."""
    seconds: float = 0.0
    """How long that took, loading included."""
    gpu_seconds: float = 0.0
    """The same times the GPUs that were held."""


@dataclass
class Entries:
    """What a journal says."""

    latest: dict[int, Entry] = field(default_factory=dict)
    """By unit."""
    items: int = 0
    seconds: float = 0.0
    gpu_seconds: float = 0.0


def append_entry(folder: Path, entry: Entry) -> None:
    """Write an entry down.

    Raises:
        OutputError: if it cannot be written.
    """
    with output_errors(folder / JOURNAL), open(folder / JOURNAL, "ab") as file:
        # The line break comes first: what a killed process left unfinished spoils no other line.
        file.write(b"\n" + json.dumps(asdict(entry), separators=(",", ":")).encode())


def read_entries(folder: Path) -> Entries:
    """All that was written down; lines that cannot be read are left out."""
    entries = Entries()
    try:
        lines = (folder / JOURNAL).read_bytes().split(b"\n")
    except FileNotFoundError:
        return entries
    for line in lines:
        try:
            entry = Entry(**json.loads(line))
        except (ValueError, TypeError):
            continue
        entries.latest[entry.unit] = entry
        entries.items += entry.items
        entries.seconds += entry.seconds
        entries.gpu_seconds += entry.gpu_seconds
    return entries
