"""Metrics: functional cores, and torchmetrics Metrics over them.

The Metrics are imported on first use, because torchmetrics takes seconds to import.
"""

import importlib
from typing import Any

from vfusion3d.metrics.functional import foreground_psnr, mask_iou, novel_view_figures, psnr, ssim
from vfusion3d.metrics.silhouettes import masks_on_white, silhouette_coherence

_METRICS = {
    "NovelViewMetrics": "novel_views",
    "OrbitMetrics": "orbits",
    "loop_closure": "orbits",
    "orbit_figures": "orbits",
}

__all__ = [
    "NovelViewMetrics",
    "OrbitMetrics",
    "foreground_psnr",
    "loop_closure",
    "mask_iou",
    "masks_on_white",
    "novel_view_figures",
    "orbit_figures",
    "psnr",
    "silhouette_coherence",
    "ssim",
]


def __getattr__(name: str) -> Any:
    if name in _METRICS:
        return getattr(importlib.import_module(f"vfusion3d.metrics.{_METRICS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
