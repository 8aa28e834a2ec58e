"""Metrics: functional cores, and torchmetrics Metrics over them.

The Metrics are imported on first use, because torchmetrics takes seconds to import.
"""

import importlib
from typing import Any

from vfusion3d.metrics.functional import foreground_psnr, mask_iou, novel_view_figures, psnr, ssim
from vfusion3d.metrics.silhouettes import masks_on_white, silhouette_coherence

_ON_USE = {
    "FoundCameras": "sfm",
    "MatchConsistency": "consistency",
    "NovelViewMetrics": "novel_views",
    "OrbitMetrics": "orbits",
    "PerObjectMetric": "per_object",
    "SfmConsistency": "sfm",
    "epipolar_errors": "consistency",
    "find_cameras": "sfm",
    "loop_closure": "orbits",
    "match_score": "consistency",
    "neighbour_errors": "consistency",
    "orbit_figures": "orbits",
    "rotation_errors": "sfm",
    "sfm_figures": "sfm",
}

__all__ = [
    "FoundCameras",
    "MatchConsistency",
    "NovelViewMetrics",
    "OrbitMetrics",
    "PerObjectMetric",
    "SfmConsistency",
    "epipolar_errors",
    "find_cameras",
    "foreground_psnr",
    "loop_closure",
    "mask_iou",
    "masks_on_white",
    "match_score",
    "neighbour_errors",
    "novel_view_figures",
    "orbit_figures",
    "psnr",
    "rotation_errors",
    "sfm_figures",
    "silhouette_coherence",
    "ssim",
]


def __getattr__(name: str) -> Any:
    if name in _ON_USE:
        return getattr(importlib.import_module(f"vfusion3d.metrics.{_ON_USE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
