"""Metrics: functional cores."""

from vfusion3d.metrics.functional import foreground_psnr, mask_iou, psnr

__all__ = ["foreground_psnr", "mask_iou", "psnr"]
