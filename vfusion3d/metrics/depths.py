"""How well depths of views are predicted."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from vfusion3d.metrics.functional import depth_error
from vfusion3d.metrics.per_object import PerObjectMetric


class DepthMetrics(PerObjectMetric):
    """Means of `depth_error` over an object's pictures, then over objects, each counted once (`PerObjectMetric`).

    Args:
        fit_scale: As in `depth_error`, for each picture on its own.
        settings: As of every `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> metrics = DepthMetrics()
        >>> near, mask = torch.full((1, 2, 1, 4, 4), 2.0), torch.ones(1, 2, 1, 4, 4)
        >>> for _ in range(2):  # the same object twice
        ...     metrics.update(near * 1.5, near, mask, mask, torch.tensor([7]))
        >>> {name: float(value) for name, value in metrics.compute().items()}
        {'depth_absolute': 1.0, 'depth_relative': 0.5}
    """

    NAMES = ("depth_absolute", "depth_relative")

    def __init__(self, fit_scale: bool = False, **settings: Any) -> None:
        super().__init__(**settings)
        self.fit_scale = fit_scale

    def update(
        self, prediction: Tensor, target: Tensor, prediction_mask: Tensor, target_mask: Tensor, objects: Tensor
    ) -> None:
        """Score B objects of V pictures.

        Pictures in which no pixel is in both masks are left out of their object's mean, and so are objects of only
        such: `mask_iou`, beside these figures, sees what was not predicted at all.

        Args:
            prediction, target, prediction_mask, target_mask: As in `depth_error`, ``[B, V, 1, H, W]``.
            objects: Which they are, int64, ``[B]``.

        Raises:
            ValueError: as `depth_error`.
        """
        figures = depth_error(prediction, target, prediction_mask, target_mask, self.fit_scale)
        self.record(objects, {name: figure.nanmean(-1) for name, figure in figures.items()})
