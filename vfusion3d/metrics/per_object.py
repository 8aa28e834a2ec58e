"""Means over objects, each counted once however many processes score it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from vfusion3d.metrics.intervals import wilson_interval


class PerObjectMetric(Metric):
    """Named figures of objects and their means.

    Several processes may score the same object, as validation on them does where the number does not divide: objects
    are told apart by their index, so the means do not depend on the number of processes. A subclass names its figures
    and calls `record` in its ``update``.

    Args:
        settings: As of every `torchmetrics.Metric`.
    """

    full_state_update = False
    NAMES: ClassVar[tuple[str, ...]]
    RATES: ClassVar[tuple[str, ...]] = ()
    """Those of the figures that are 0 or 1, whose mean is a rate."""

    objects: list[Tensor]
    figures: list[Tensor]

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.add_state("objects", default=[], dist_reduce_fx="cat")
        self.add_state("figures", default=[], dist_reduce_fx="cat")

    def record(self, objects: Tensor, figures: Mapping[str, Tensor]) -> None:
        """Keep the figures ``[B]`` of B objects, NaN where an object has none; ``objects`` is int64, ``[B]``."""
        self.objects.append(objects)
        self.figures.append(torch.stack([figures[name] for name in self.NAMES], -1))

    def compute(self) -> dict[str, Tensor]:
        """Means over objects of all processes, leaving out those that have no such figure.

        Of each figure in `RATES` also ``NAME_low`` and ``NAME_high``, the ends of the rate's 95 % `wilson_interval`.
        """
        objects, figures = dim_zero_cat(self.objects), dim_zero_cat(self.figures)
        first = {int(index): row for row, index in reversed(list(enumerate(objects.tolist())))}
        rows = figures[sorted(first.values())].double()
        means = dict(zip(self.NAMES, rows.nanmean(0).float(), strict=True))
        for name in self.RATES:
            known = rows[:, self.NAMES.index(name)]
            known = known[~known.isnan()]
            _, low, high = wilson_interval(int(known.sum()), len(known))
            means |= {f"{name}_low": means[name].new_tensor(low), f"{name}_high": means[name].new_tensor(high)}
        return means
