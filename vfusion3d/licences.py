"""What a licence allows, by a table of those that models and data sets of this field are under (``licences.json``).

Statements are what files, cards and reports say: an SPDX name, an address, or a sentence. A rule of thumb, not legal
advice: a statement is searched for the names that the table knows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

TERMS = {
    "permissive": "it may be used for anything",
    "attribution": "it may be used for anything if authors are named",
    "conditions": "it may be used commercially too, within conditions that go on to what is made from it",
    "non-commercial": "it may not be used commercially",
    "research only": "it may be used for research alone",
    "unknown": "what it may be used for is not known",
}
"""What may be done under each kind of terms, from the loosest to the strictest."""
NOT_RECORDED = "No licence was recorded."


@dataclass(frozen=True)
class Judgement:
    """What a statement means.

    Args:
        terms: One of `TERMS`.
        licence: Name of the licence that decides, or None if the table knows none in the statement.
        reason: Why, one sentence without a capital letter and full stop.
    """

    terms: str
    licence: str | None
    reason: str


@cache
def _table() -> list[dict[str, Any]]:
    text = (resources.files("vfusion3d") / "licences.json").read_text(encoding="utf-8")
    return [{**row, "matches": [re.compile(one, re.IGNORECASE) for one in row["matches"]]} for row in json.loads(text)]


def judge(statement: str) -> Judgement:
    """What a statement about a licence means; of several licences in it, the strictest decides.

    Example:
        >>> judge("Weights under CC BY-NC 4.0").terms
        'non-commercial'
        >>> judge("http://creativecommons.org/licenses/by/4.0/").licence
        'CC-BY'
        >>> judge("ask the author").terms
        'unknown'
    """
    found = [row for row in _table() if any(pattern.search(statement) for pattern in row["matches"])]
    if not found:
        return Judgement("unknown", None, "no licence is named that the table of known ones has")
    row = max(found, key=lambda row: list(TERMS).index(row["terms"]))  # of equal ones the first, which is more specific
    return Judgement(row["terms"], row["name"], row["reason"])


def strictest(terms: Iterable[str]) -> str:
    """The strictest of several kinds of terms; ``unknown`` if there are none.

    Example:
        >>> strictest(["attribution", "permissive"])
        'attribution'
    """
    return max(terms, key=list(TERMS).index, default="unknown")
