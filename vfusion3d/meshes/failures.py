"""The table of meshes that could not be rendered, kept from run to run."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import NamedTuple

from vfusion3d.errors import SceneError
from vfusion3d.outputs import write_atomically

FAILURES = "failures.csv"
_SHOWN = 20


class Failure(NamedTuple):
    """A row: the scene's name, the mesh file, and one sentence."""

    scene: str
    mesh: str
    reason: str


class FailureTable:
    """``failures.csv`` in an output folder, with the columns scene, mesh and reason.

    Args:
        folder: The output folder; it need not exist.

    Raises:
        SceneError: if the file is no such table.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FAILURES
        self.rows: dict[str, Failure] = {}
        if not self.path.is_file():
            return
        try:
            with self.path.open(newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    self.rows[row["scene"]] = Failure(row["scene"], row["mesh"], row["reason"])
        except (OSError, ValueError, KeyError, csv.Error) as error:
            raise SceneError(
                f"The table {self.path} cannot be read ({type(error).__name__}: {error}); delete it."
            ) from error

    def save(self) -> None:
        """Write the table, or remove it if it is empty.

        Raises:
            OutputError: if it cannot be written.
        """
        if not self.rows:
            self.path.unlink(missing_ok=True)
            return
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(Failure._fields)
        writer.writerows(self.rows.values())
        write_atomically(self.path, text.getvalue().encode())

    def lines(self, scenes: list[str]) -> list[str]:
        """The rows of some scenes as a table to print; the first twenty, and how many more there are."""
        width = max(map(len, scenes), default=0)
        lines = [f"{scene:<{width}}  {self.rows[scene].reason}" for scene in scenes[:_SHOWN]]
        return [*lines, *([f"... and {len(scenes) - _SHOWN} more."] if len(scenes) > _SHOWN else [])]
