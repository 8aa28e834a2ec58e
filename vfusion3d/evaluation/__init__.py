"""Benchmarks: protocols as data, methods of any kind, results that compare.

Imported on first use, since what scores is heavy.
"""

import importlib
from typing import Any

_ON_USE = {
    "Comparison": "comparison",
    "EntryPoint": "methods",
    "EvaluationItem": "methods",
    "ImageFolder": "methods",
    "MeshFolder": "methods",
    "Method": "methods",
    "Protocol": "protocol",
    "Reconstructor": "methods",
    "Results": "results",
    "VideoFolder": "methods",
    "compare": "comparison",
    "evaluate": "scoring",
    "list_protocols": "protocol",
    "render_targets": "targets",
}

__all__ = [
    "Comparison",
    "EntryPoint",
    "EvaluationItem",
    "ImageFolder",
    "MeshFolder",
    "Method",
    "Protocol",
    "Reconstructor",
    "Results",
    "VideoFolder",
    "compare",
    "evaluate",
    "list_protocols",
    "render_targets",
]


def __getattr__(name: str) -> Any:
    if name in _ON_USE:
        return getattr(importlib.import_module(f"vfusion3d.evaluation.{_ON_USE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
