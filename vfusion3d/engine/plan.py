"""A chain of stages, in order, with how each is run."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from vfusion3d.data.query import parse_query
from vfusion3d.engine.stage import ID, Stage
from vfusion3d.errors import UsageError


@dataclass
class Step:
    """A stage, and how it is run; nothing here changes an item's result.

    Args:
        stage: What is done.
        where: Which items it is for, an expression over earlier columns (`vfusion3d.data.query.parse_query`).
        batch_size: Items that the stage gets at once.
        workers: Actors of the executor ray.
        gpus: GPUs of each of them; GPU-hours are counted by it in this process too.

    Raises:
        UsageError: naming the argument that cannot be.
    """

    stage: Stage
    where: str | None = None
    batch_size: int = 8
    workers: int = 1
    gpus: float = 0.0

    def __post_init__(self) -> None:
        for name, value, least in (
            ("batch_size", self.batch_size, 1),
            ("workers", self.workers, 1),
            ("gpus", self.gpus, 0),
        ):
            if value < least:
                raise UsageError(f"Argument `{name}` of {self.stage.name} must be at least {least}, but got {value}.")


@dataclass
class Source:
    """An earlier step whose results a later one depends on."""

    step: int
    """Its place in the plan."""
    columns: list[str]
    """What is needed of its columns; none where it only matters which items it has done."""


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
        self.conditions: list[set[str]] = []
        """Columns that each step's condition needs."""
        for number, step in enumerate(self.steps):
            stage = step.stage
            known = {*columns, *owners}
            for name in stage.reads:
                if name not in known:
                    raise UsageError(
                        f"The stage {stage.name} reads the column {name!r}, which no stage before it writes; there are "
                        f"{', '.join(sorted(known))}."
                    )
            if stage.name in {earlier.stage.name for earlier in self.steps[:number]}:
                raise UsageError(f"Two stages are called {stage.name!r}; a plan may have one.")
            self.conditions.append(set() if step.where is None else parse_query(step.where, known)[1])
            self.used.append({ID, *stage.reads, *(known & set(stage.optional)), *self.conditions[-1]})
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

    def folder(self, step: int) -> str:
        """Name of the folder of a step's results."""
        return f"{self.steps[step].stage.name}-{self.fingerprints[step]}"

    def sources(self, step: int, columns: Collection[str], stages: Collection[str] = ()) -> list[Source]:
        """The steps before ``step`` that columns and stages depend on, by what is read or by a condition, in order."""
        wanted, needed, found = set(columns), set(stages), []
        for number in reversed(range(step)):
            stage = self.steps[number].stage
            names = [name for name in stage.writes if name in wanted]
            if not names and stage.name not in needed:
                continue
            found.append(Source(number, names))
            wanted |= self.conditions[number]
            needed |= {self.owners[name] for name in stage.reads if name in self.owners}
        return found[::-1]
