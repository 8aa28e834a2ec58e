"""Which of two methods people prefer: the paper's user study, its page, its votes and its figures."""

from __future__ import annotations

import importlib
from typing import Any

_PUBLIC = {
    "Pair": "pairs",
    "Study": "pairs",
    "find_pairs": "pairs",
    "QUESTIONS": "votes",
    "Design": "votes",
    "Trial": "votes",
    "Vote": "votes",
    "Votes": "votes",
    "Report": "figures",
    "make_report": "figures",
    "nominal_alpha": "figures",
    "StudyServer": "server",
    "StudySession": "server",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"vfusion3d.study.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'vfusion3d.study' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
