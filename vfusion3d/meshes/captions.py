"""Captions of meshes, from a file."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from vfusion3d.errors import UsageError


def read_captions(path: str | Path) -> dict[str, str]:
    """Captions by the stem of the mesh file.

    Args:
        path: A ``.json`` file, an object of stem -> caption; or a ``.csv`` file with two columns, with or without a
            header, as Cap3D's (uid,caption).

    Raises:
        UsageError: if the file cannot be used.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            document = json.loads(text)
            if not isinstance(document, dict) or not all(isinstance(value, str) for value in document.values()):
                raise ValueError("it is no object of names and captions")
            return document
        rows = [row for row in csv.reader(text.splitlines(keepends=True)) if row]
        if any(len(row) < 2 for row in rows):
            raise ValueError("a line has fewer than two columns")
        return {row[0].strip(): row[1].strip() for row in rows}
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(
            f"The captions {path} cannot be used ({error}); give a CSV file with the columns name,caption or a JSON "
            "object."
        ) from error
