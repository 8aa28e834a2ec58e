"""Metrics: functional cores, and torchmetrics Metrics over them.

The Metrics are imported on first use, because torchmetrics takes seconds to import.
"""

from typing import Any

from vfusion3d.metrics.functional import foreground_psnr, mask_iou, novel_view_figures, psnr, ssim

__all__ = ["NovelViewMetrics", "foreground_psnr", "mask_iou", "novel_view_figures", "psnr", "ssim"]


def __getattr__(name: str) -> Any:
    if name == "NovelViewMetrics":
        from vfusion3d.metrics.novel_views import NovelViewMetrics

        return NovelViewMetrics
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
