"""How well views that the model was not shown are predicted."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from vfusion3d.metrics.functional import novel_view_figures


class NovelViewMetrics(Metric):
    """Means of `novel_view_figures` over objects, each counted once.

    Several processes may score the same object, as validation on them does where the number does not divide: objects
    are told apart by their index, so the means do not depend on the number of processes.

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

    full_state_update = False
    NAMES = ("psnr", "foreground_psnr", "ssim", "iou")

    objects: list[Tensor]
    figures: list[Tensor]

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.add_state("objects", default=[], dist_reduce_fx="cat")
        self.add_state("figures", default=[], dist_reduce_fx="cat")

    def update(self, prediction: Tensor, opacity: Tensor, target: Tensor, mask: Tensor, objects: Tensor) -> None:
        """Score B objects; pictures as in `novel_view_figures`, ``[B, V, ...]``, ``objects`` int64, ``[B]``."""
        figures = novel_view_figures(prediction, opacity, target, mask)
        self.objects.append(objects)
        self.figures.append(torch.stack([figures[name] for name in self.NAMES], -1))

    def compute(self) -> dict[str, Tensor]:
        """Means over objects of all processes, leaving out those that have no such figure."""
        objects, figures = dim_zero_cat(self.objects), dim_zero_cat(self.figures)
        first = {int(index): row for row, index in reversed(list(enumerate(objects.tolist())))}
        means = figures[sorted(first.values())].double().nanmean(0).float()
        return dict(zip(self.NAMES, means, strict=True))
