"""Metrics: functional cores, and torchmetrics Metrics over them.

The Metrics are imported on first use, because torchmetrics takes seconds to import.
"""

import importlib
from typing import Any

from vfusion3d.metrics.functional import depth_error, foreground_psnr, mask_iou, novel_view_figures, psnr, ssim
from vfusion3d.metrics.intervals import Interval, bootstrap_interval, wilson_interval
from vfusion3d.metrics.silhouettes import masks_on_white, silhouette_coherence

_ON_USE = {
    "ClipNetwork": "clip",
    "ClipSimilarity": "clip",
    "DepthMetrics": "depths",
    "FoundCameras": "sfm",
    "GoodRate": "rates",
    "HasSurface": "geometry",
    "LpipsDistance": "perceptual",
    "LpipsNetwork": "perceptual",
    "MatchConsistency": "consistency",
    "NovelViewMetrics": "novel_views",
    "OrbitMetrics": "orbits",
    "PerObjectMetric": "per_object",
    "SfmConsistency": "sfm",
    "Similarity": "geometry",
    "Surface": "geometry",
    "SurfaceMetrics": "geometry",
    "SurfaceSamples": "geometry",
    "align": "geometry",
    "chamfer_distance": "geometry",
    "clip_similarity": "clip",
    "epipolar_errors": "consistency",
    "f_score": "geometry",
    "find_cameras": "sfm",
    "good_rate": "rates",
    "loop_closure": "orbits",
    "lpips_distance": "perceptual",
    "match_score": "consistency",
    "neighbour_errors": "consistency",
    "normal_consistency": "geometry",
    "orbit_figures": "orbits",
    "rotation_errors": "sfm",
    "sample_surface": "geometry",
    "sfm_figures": "sfm",
    "surface_figures": "geometry",
}

__all__ = [
    "ClipNetwork",
    "ClipSimilarity",
    "DepthMetrics",
    "FoundCameras",
    "GoodRate",
    "HasSurface",
    "Interval",
    "LpipsDistance",
    "LpipsNetwork",
    "MatchConsistency",
    "NovelViewMetrics",
    "OrbitMetrics",
    "PerObjectMetric",
    "SfmConsistency",
    "Similarity",
    "Surface",
    "SurfaceMetrics",
    "SurfaceSamples",
    "align",
    "bootstrap_interval",
    "chamfer_distance",
    "clip_similarity",
    "depth_error",
    "epipolar_errors",
    "f_score",
    "find_cameras",
    "foreground_psnr",
    "good_rate",
    "loop_closure",
    "lpips_distance",
    "mask_iou",
    "masks_on_white",
    "match_score",
    "neighbour_errors",
    "normal_consistency",
    "novel_view_figures",
    "orbit_figures",
    "psnr",
    "rotation_errors",
    "sample_surface",
    "sfm_figures",
    "silhouette_coherence",
    "ssim",
    "surface_figures",
    "wilson_interval",
]


def __getattr__(name: str) -> Any:
    if name in _ON_USE:
        return getattr(importlib.import_module(f"vfusion3d.metrics.{_ON_USE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
