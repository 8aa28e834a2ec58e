"""Shares of what passed: a quality filter's good rate, and any other of zeros and ones."""

from __future__ import annotations

from torch import Tensor

from vfusion3d.metrics.intervals import Interval, wilson_interval
from vfusion3d.metrics.per_object import PerObjectMetric


def good_rate(labels: Tensor, level: float = 0.95) -> Interval:
    """Share of objects, videos or orbits labelled good, with its `wilson_interval`.

    Args:
        labels: bool, or zeros and ones, ``[N]``: of a quality filter, of people, or ``sfm_pass`` of each orbit.
        level: Confidence, in (0, 1).

    Raises:
        ValueError: if a label is neither 0 nor 1; leave out what has no label, and say so.

    Example:
        >>> import torch
        >>> [round(number, 3) for number in good_rate(torch.tensor([True, True, False, True]))]
        [0.75, 0.301, 0.954]
    """
    _check_labels(labels)
    return wilson_interval(int(labels.sum()), labels.numel(), level)


def _check_labels(labels: Tensor) -> None:
    if not ((labels == 0) | (labels == 1)).all():
        raise ValueError("Argument `labels` must hold booleans, or zeros and ones, only.")


class GoodRate(PerObjectMetric):
    """`good_rate` over objects of all processes, each counted once (`PerObjectMetric`).

    Its values are ``good_rate``, ``good_rate_low`` and ``good_rate_high``, of the 95 % interval.

    Args:
        settings: As of every `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> rate = GoodRate()
        >>> rate.update(torch.tensor([True, False]), torch.tensor([3, 5]))
        >>> rate.update(torch.tensor([True]), torch.tensor([3]))  # the same object again
        >>> {name: round(float(value), 3) for name, value in rate.compute().items()}
        {'good_rate': 0.5, 'good_rate_low': 0.095, 'good_rate_high': 0.905}
    """

    NAMES = ("good_rate",)
    RATES = NAMES

    def update(self, labels: Tensor, objects: Tensor) -> None:
        """Count B labels as in `good_rate`; ``objects`` int64, ``[B]``."""
        _check_labels(labels)
        self.record(objects, {"good_rate": labels.float()})
