"""Diagrams as PNG files."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vfusion3d.errors import MissingExtraError
from vfusion3d.outputs import write_atomically


@contextmanager
def figure(across: str, up: str, panels: int = 1) -> Iterator[tuple[Any, Any]]:
    """A figure and its axes (several if there are several panels); no window and no global state.

    Args:
        across: What the first panel's horizontal axis shows.
        up: What its vertical axis shows.
        panels: How many, side by side.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    check_matplotlib()
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(5.2 * panels, 3.8), layout="constrained", dpi=120)
    axes = drawing.subplots(1, panels)
    first = axes if panels == 1 else axes[0]
    first.set_xlabel(across)
    first.set_ylabel(up)
    yield drawing, axes


def save_figure(drawing: Any, path: Path) -> None:
    """Write a figure as PNG, whole or not at all.

    Raises:
        OutputError: if it cannot be written.
    """
    data = io.BytesIO()
    drawing.savefig(data, format="png")
    write_atomically(path, data.getvalue())


def check_matplotlib() -> None:
    """See that plots can be made, before hours of work that end in one.

    Raises:
        MissingExtraError: if not.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("The plots need matplotlib: pip install matplotlib.") from error
