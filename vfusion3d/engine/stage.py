"""What every stage of the engine is: a callable from batch to batch that adds columns."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pyarrow as pa

from vfusion3d.errors import UsageError

ID = "id"
ERROR = "error"
"""Column of a batch that says why an item has no result; null where it has."""

Row = dict[str, Any]
"""An item: values by column, as `pyarrow.Table.to_pylist` gives them."""


class ItemError(Exception):
    """Why an item has no result: one sentence. A stage returns it in the item's place; the others go on."""


class Stage(ABC):
    """Adds columns to batches of items.

    An item's result depends on nothing but the item, the settings and the version: neither on its neighbours in the
    batch nor on the process. Randomness comes from `item_seed`.

    Args:
        settings: All that decides the results, as plain data; what does not (devices, sizes of batches) is not in it.

    Example:
        >>> import pyarrow as pa
        >>> class Shout(Stage):
        ...     name, reads, writes = "shout", ("prompt",), {"loud": pa.string()}
        ...     def process(self, rows):
        ...         return [{"loud": row["prompt"].upper()} for row in rows]
        >>> Shout()(pa.table({"id": ["a"], "prompt": ["owl"]}))["loud"].to_pylist()
        ['OWL']
    """

    name: ClassVar[str]
    """Names its results on disk."""
    version: ClassVar[int] = 1
    """Raised when the code gives other results for the same settings."""
    reads: ClassVar[Sequence[str]]
    """Columns that it needs."""
    optional: ClassVar[Sequence[str]] = ()
    """Columns that it uses where there are such."""
    writes: ClassVar[Mapping[str, pa.DataType]]
    """Columns that it adds. Pictures are encoded files (``pa.binary()``, ``pa.list_(pa.binary())`` for frames)."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self._loaded = False

    def load(self) -> None:  # noqa: B027 - most have nothing to load
        """Load models, once in each process that works; before it a stage is light and can be pickled."""

    @abstractmethod
    def process(self, rows: Sequence[Row]) -> Sequence[Row | ItemError]:
        """The new columns of each row, or why it has none."""

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Add `writes` and, where it is missing, the column ``error``; items that have one already are passed over.

        Raises:
            UsageError: if a column is missing.
        """
        missing = [name for name in (ID, *self.reads) if name not in batch.column_names]
        if missing:
            raise UsageError(
                f"The stage {self.name} needs the column {missing[0]!r}, but the batch has "
                f"{', '.join(batch.column_names)}."
            )
        if not self._loaded:
            self.load()
            self._loaded = True
        errors = batch[ERROR].to_pylist() if ERROR in batch.column_names else [None] * len(batch)
        wanted = [name for name in (ID, *self.reads, *self.optional) if name in batch.column_names]
        rows = batch.select(wanted).to_pylist()
        sound = [row for row, error in zip(rows, errors, strict=True) if error is None]
        answers = self.process(sound) if sound else ()
        if len(answers) != len(sound):
            raise RuntimeError(f"The stage {self.name} gave {len(answers)} results for {len(sound)} items.")
        results = iter(answers)
        columns: dict[str, list[Any]] = {name: [None] * len(rows) for name in self.writes}
        for place, error in enumerate(errors):
            if error is not None:
                continue
            result = next(results)
            if isinstance(result, ItemError):
                errors[place] = str(result)
                continue
            for name in self.writes:
                columns[name][place] = result[name]
        for name, kind in self.writes.items():
            batch = batch.append_column(name, pa.array(columns[name], kind))
        if ERROR in batch.column_names:
            batch = batch.drop_columns([ERROR])
        return batch.append_column(ERROR, pa.array(errors, pa.string()))

    def fingerprint(self, inputs: Mapping[str, str]) -> str:
        """Sixteen hexadecimal digits that change with version, settings and what the read columns are made by.

        Args:
            inputs: Fingerprints of the stages that write what this one reads, by column.

        Raises:
            UsageError: if a setting is no plain data.
        """
        read = {name: inputs[name] for name in (*self.reads, *self.optional) if name in inputs}
        document = {"name": self.name, "version": self.version, "settings": self.settings, "reads": read}
        try:
            text = json.dumps(document, sort_keys=True, separators=(",", ":"))
        except TypeError as error:
            raise UsageError(f"The stage {self.name} has settings that are no plain data ({error}).") from error
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def item_seed(item: str, seed: int = 0, stream: str = "") -> int:
    """A 63-bit seed of an item, the same everywhere.

    Args:
        item: Its id.
        seed: The run's seed.
        stream: What the randomness is for; different streams are independent.
    """
    digest = hashlib.sha256(f"{seed}\n{stream}\n{item}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
