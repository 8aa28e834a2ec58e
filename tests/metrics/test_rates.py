from __future__ import annotations

import pytest
import torch

from vfusion3d.metrics import GoodRate, good_rate, wilson_interval
from vfusion3d.metrics.per_object import PerObjectMetric


class Passes(PerObjectMetric):
    NAMES = ("sharpness", "passes")
    RATES = ("passes",)

    def update(self, sharpness: torch.Tensor, passes: torch.Tensor) -> None:
        self.record(torch.arange(len(passes)), {"sharpness": sharpness, "passes": passes})


def test_share_with_its_interval():
    labels = torch.tensor([True] * 8 + [False] * 2)
    assert good_rate(labels) == good_rate(labels.half()) == wilson_interval(8, 10)
    assert good_rate(labels, level=0.5).low > good_rate(labels).low


def test_other_labels_are_refused():
    for labels in (torch.tensor([1.0, torch.nan]), torch.tensor([0, 2])):
        with pytest.raises(ValueError, match="zeros and ones, only"):
            good_rate(labels)
        with pytest.raises(ValueError, match="zeros and ones, only"):
            GoodRate().update(labels, torch.arange(2))


def test_objects_without_the_figure_do_not_count():
    metric = Passes()
    sharpness = torch.rand(4)
    metric.update(sharpness, torch.tensor([1, 1, 0, torch.nan]))
    values = {name: float(value) for name, value in metric.compute().items()}
    share, low, high = wilson_interval(2, 3)
    expected = {"passes": share, "passes_low": low, "passes_high": high, "sharpness": float(sharpness.mean())}
    assert values == pytest.approx(expected, rel=1e-6)
