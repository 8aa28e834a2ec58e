"""How well views that the model was not shown are predicted."""

from __future__ import annotations

from torch import Tensor

from vfusion3d.metrics.functional import novel_view_figures
from vfusion3d.metrics.per_object import PerObjectMetric


class NovelViewMetrics(PerObjectMetric):
    """Means of `novel_view_figures` over objects, each counted once (`PerObjectMetric`).

    Args:
        settings: As of every `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> metrics = NovelViewMetrics()
        >>> white = torch.ones(1, 2, 3, 16, 16)
        >>> for _ in range(2):  # the same object twice
        ...     metrics.update(white - 0.1, white[:, :, :1], white, white[:, :, :1], torch.tensor([7]))
        >>> {name: round(float(value), 2) for name, value in metrics.compute().items()}
        {'psnr': 20.0, 'foreground_psnr': 20.0, 'ssim': 0.99, 'iou': 1.0}
    """

    NAMES = ("psnr", "foreground_psnr", "ssim", "iou")

    def update(self, prediction: Tensor, opacity: Tensor, target: Tensor, mask: Tensor, objects: Tensor) -> None:
        """Score B objects; pictures as in `novel_view_figures`, ``[B, V, ...]``, ``objects`` int64, ``[B]``."""
        self.record(objects, novel_view_figures(prediction, opacity, target, mask))
