"""The data engine: from prompts to filtered, labelled multi-view videos (paper, section 3.3; DESIGN.md, decision 9)."""

from __future__ import annotations

import importlib
from typing import Any

_PUBLIC = {
    "Stage": "stage",
    "Row": "stage",
    "ItemError": "stage",
    "item_seed": "stage",
    "Step": "plan",
    "Plan": "plan",
    "Store": "store",
    "read_items": "items",
    "run": "runner",
    "summarise": "summary",
    "regenerate": "one_item",
    "RuleCaptionFilter": "stages.captions",
    "LMCaptionFilter": "stages.caption_lm",
    "ObjectCaptioner": "stages.object_captions",
    "TextToImage": "stages.text_to_image",
    "VideoFeatures": "stages.features",
    "QualityClassifier": "stages.quality",
    "QualityScore": "stages.quality",
    "ElevationLabel": "stages.elevation",
    "ReadImage": "stages.pictures",
    "CentrePicture": "stages.centre",
    "ImageToOrbit": "stages.orbits",
    "FrameMasks": "stages.masks",
    "MatchScore": "stages.consistency",
    "SfmCheck": "stages.consistency",
    "AestheticScore": "stages.aesthetic",
    "PackSummary": "packing",
    "pack": "packing",
    "write_report": "report",
    "OraclePsnr": "stages.planted",
    "oracle_psnr": "stages.planted",
    "plant": "stages.planted",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"vfusion3d.engine.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'vfusion3d.engine' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
