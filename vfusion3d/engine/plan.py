"""A chain of stages, in order, with how each is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vfusion3d.data.query import parse_query
from vfusion3d.engine.stage import ID, Stage
from vfusion3d.errors import UsageError


@dataclass
class Step:
    """A stage, and how it is run; nothing here changes an item's result."""

    stage: Stage
    where: str | None = None
    """Which items it is for, an expression over earlier columns (`vfusion3d.data.query.parse_query`)."""
    batch_size: int = 8
    """Items that the stage gets at once."""


class Plan:
    """Steps that fit together.

    Args:
        steps: In order.
        columns: Of the table of items.

    Raises:
        UsageError: if a step reads what nothing before it writes, two write one column, or two have one name.
    """

    def __init__(self, steps: Sequence[Step], columns: Sequence[str]) -> None:
        self.steps = list(steps)
        owners: dict[str, str] = {}  # column: name of the stage that writes it
        prints: dict[str, str] = {}  # column: that stage's fingerprint
        self.fingerprints: list[str] = []
        """Of each step's stage."""
        self.used: list[set[str]] = []
        """Columns that each step's stage and condition need."""
        for step in self.steps:
            stage = step.stage
            known = {*columns, *owners}
            for name in stage.reads:
                if name not in known:
                    raise UsageError(
                        f"The stage {stage.name} reads the column {name!r}, which no stage before it writes; there are "
                        f"{', '.join(sorted(known))}."
                    )
            if stage.name in owners.values():
                raise UsageError(f"Two stages are called {stage.name!r}; a plan may have one.")
            where = set() if step.where is None else parse_query(step.where, known)[1]
            self.used.append({ID, *stage.reads, *(known & set(stage.optional)), *where})
            self.fingerprints.append(stage.fingerprint(prints))
            for name in stage.writes:
                if name in known:
                    raise UsageError(
                        f"The stage {stage.name} writes the column {name!r}, which {owners.get(name, 'the items')} "
                        "has already."
                    )
                owners[name], prints[name] = stage.name, self.fingerprints[-1]
        self.owners = owners
        """Which stage writes a column."""
