"""Training data: scenes on disk, procedural objects made on the device, and mixtures of both.

Public names are imported on first use, because Lightning takes seconds to import.
"""

from __future__ import annotations

import importlib
from typing import Any

_PUBLIC = {
    "Finding": "doctor",
    "MixedDataModule": "mixed_module",
    "MultiViewBatch": "batches",
    "OrbitBatch": "orbit_videos",
    "OrbitVideoDataModule": "orbit_videos",
    "ProceduralDataModule": "procedural_module",
    "ProceduralObjects": "raycast",
    "ProceduralOrbitDataModule": "procedural_orbits",
    "RenderedDataModule": "rendered_module",
    "Scene": "scenes",
    "ShardSet": "shards",
    "ShardWriter": "shard_writer",
    "SyntheticDataModule": "synthetic_module",
    "Views": "layouts",
    "batch_cameras": "batches",
    "draw_rig": "rig_plot",
    "examine": "doctor",
    "load_posed_photos": "posed_photos",
    "read_views": "layouts",
    "render": "raycast",
    "sample_generator": "randomness",
    "sample_objects": "procedural",
    "split_by_group": "held_out",
    "unit_noise": "randomness",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
