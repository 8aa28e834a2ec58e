"""Tables of items: prompts, or pictures, with an id each."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from vfusion3d.engine.stage import ERROR, ID
from vfusion3d.errors import UsageError

_KINDS = (".txt", ".csv", ".tsv", ".jsonl", ".parquet")
_BLOCK = 1 << 26  # bytes; a row must fit into it


def read_items(path: str | os.PathLike[str], column: str = "prompt") -> pa.Table:
    """Read a table of items.

    Args:
        path: A ``.txt`` file (one prompt a line; empty lines are left out), ``.csv``, ``.tsv``, ``.jsonl`` or
            ``.parquet``.
        column: A column that it must have, of texts.

    Returns:
        The table with the column ``id`` first, texts: the file's own, or the number of the row.

    Raises:
        UsageError: if the file is empty, not UTF-8, lacks the column, or has an id twice or not at all.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise UsageError(f"The table of items {path} does not exist or may not be read; check the path.")
    if path.suffix.lower() not in _KINDS:
        raise UsageError(f"The table of items {path} must be one of {', '.join(_KINDS)}.")
    try:
        table = _read(path, column)
        names = Counter(table.column_names)
    except (UnicodeDecodeError, pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UsageError(f"The table of items {path} cannot be read ({reason}); save it as UTF-8 text.") from error
    if not len(table):
        raise UsageError(f"The table of items {path} is empty; give at least one.")
    if column not in names:
        raise UsageError(
            f"The table of items {path} has no column {column!r}, but {', '.join(names)}; name the one that holds it."
        )
    wrong = next((name for name, count in names.items() if count > 1 or name == ERROR), None)
    if wrong is not None:
        why = "which the stages use themselves" if wrong == ERROR else "twice"
        raise UsageError(f"The table of items {path} has the column {wrong!r}, {why}; give it another name.")
    return _with_ids(table, path).combine_chunks().replace_schema_metadata()


def _read(path: Path, column: str) -> pa.Table:
    kind = path.suffix.lower()
    if kind == ".parquet":
        return pq.read_table(path)
    if path.stat().st_size == 0:
        return pa.table({column: pa.array([], pa.string())})
    with open(path, encoding="utf-8-sig") as file:
        if kind == ".txt":
            lines = [line.strip() for line in file]
        while file.read(_BLOCK):  # pyarrow reads any bytes of .jsonl
            pass
    if kind == ".txt":
        return pa.table({column: pa.array([line for line in lines if line], pa.string())})
    if kind == ".jsonl":
        return pa.json.read_json(path, pa.json.ReadOptions(block_size=_BLOCK))
    return pa.csv.read_csv(
        path,
        pa.csv.ReadOptions(block_size=_BLOCK),
        pa.csv.ParseOptions(delimiter="\t" if kind == ".tsv" else ",", newlines_in_values=True),
        pa.csv.ConvertOptions(column_types={ID: pa.string(), column: pa.string()}),  # 0012 stays 0012
    )


def _with_ids(table: pa.Table, path: Path) -> pa.Table:
    """The table with ids, first, that differ."""
    if ID not in table.column_names:
        return table.add_column(0, ID, pa.array([f"{row:08d}" for row in range(len(table))]))
    ids = table[ID].cast(pa.string())
    if ids.null_count or pc.any(pc.equal(ids, "")).as_py():
        raise UsageError(f"The table of items {path} has rows without an id; give every row one, or leave ids out.")
    counts = pc.value_counts(ids)
    twice = pc.filter(counts.field("values"), pc.greater(counts.field("counts"), 1))
    if len(twice):
        raise UsageError(f"The table of items {path} has the id {twice[0].as_py()!r} twice; ids must differ.")
    return table.drop_columns([ID]).add_column(0, ID, ids)
