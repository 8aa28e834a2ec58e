"""Rows that papers print, as data and marked as such."""

from __future__ import annotations

from functools import cache
from typing import Any

import yaml

from vfusion3d.evaluation.protocol import FOLDER


@cache
def published() -> dict[str, dict[str, Any]]:
    """Per protocol: ``source``, ``columns``, and ``rows`` by method."""
    found: dict[str, dict[str, Any]] = yaml.safe_load((FOLDER / "published.yml").read_text(encoding="utf-8"))
    return found


def published_rows(protocol: str) -> str:
    """The rows of a protocol, and of those that differ from it in our choices alone, as Markdown; '' if none."""
    table = published().get(protocol) or published().get("gso-orbit" if protocol.startswith("gso-orbit") else "")
    if table is None:
        return ""
    lines = [f"| published | {' | '.join(table['columns'])} |", "| --- " + "| ---: " * len(table["columns"]) + "|"]
    lines += [f"| {name} | {' | '.join(str(value) for value in row)} |" for name, row in table["rows"].items()]
    return "\n".join([*lines, "", f"Published, not measured here: {table['source']}."])
