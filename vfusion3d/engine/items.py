"""Tables of items: prompts, or pictures, with an id each."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from vfusion3d.engine.stage import ID
from vfusion3d.errors import UsageError


def read_items(path: str | os.PathLike[str], column: str = "prompt") -> pa.Table:
    """Read a table of items.

    Args:
        path: A ``.txt`` file (one prompt a line), ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet``.
        column: A column that it must have.

    Returns:
        The table with the column ``id`` first, texts: the file's own, or the number of the row.

    Raises:
        UsageError: if the file is empty, not UTF-8, lacks the column or has an id twice.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if not path.is_file():
        raise UsageError(f"The table of items {path} does not exist; check the path.")
    try:
        if kind == ".txt":
            lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
            table = pa.table({column: [line for line in lines if line]})
        elif kind in (".csv", ".tsv"):
            options = pa.csv.ParseOptions(delimiter="\t" if kind == ".tsv" else ",")
            table = pa.csv.read_csv(path, parse_options=options)
        elif kind == ".jsonl":
            table = pa.json.read_json(path)
        elif kind == ".parquet":
            table = pq.read_table(path)
        else:
            raise UsageError(f"The table of items {path} must be .txt, .csv, .tsv, .jsonl or .parquet.")
    except (UnicodeDecodeError, pa.ArrowInvalid) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"The table of items {path} cannot be read ({reason}); save it as UTF-8 text.") from error
    if column not in table.column_names:
        raise UsageError(
            f"The table of items {path} has no column {column!r}, but {', '.join(table.column_names)}; name the one "
            "that holds it."
        )
    if not len(table):
        raise UsageError(f"The table of items {path} is empty; give at least one.")
    if ID not in table.column_names:
        table = table.add_column(0, ID, pa.array([f"{row:08d}" for row in range(len(table))]))
    table = table.set_column(table.column_names.index(ID), ID, table[ID].cast(pa.string()))
    counts = table.group_by(ID).aggregate([(ID, "count")]).to_pylist()
    twice = next((row[ID] for row in counts if row[f"{ID}_count"] > 1), None)
    if twice is not None:
        raise UsageError(f"The table of items {path} has the id {twice!r} twice; ids must differ.")
    return table.combine_chunks().replace_schema_metadata()
