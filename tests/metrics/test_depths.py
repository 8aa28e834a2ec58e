from __future__ import annotations

import numpy as np
import pytest
import torch

from vfusion3d.metrics import DepthMetrics


def views(objects: int = 4) -> tuple[torch.Tensor, ...]:
    """Depths and opacities of 3 pictures of 8 x 8 pixels each, NaN where there is none.

    Of object 1 no pixel of picture 2 is in both masks, of object 2 none at all.
    """
    masks = torch.rand(2, objects, 3, 1, 8, 8)
    masks[0, 1, 2], masks[1, 2] = 0, 0
    target = torch.rand(objects, 3, 1, 8, 8) + 1
    prediction = target * (1 + torch.rand(objects, 1, 1, 1, 1)) + 0.1 * torch.rand_like(target)
    for depth, mask in zip((prediction, target), masks, strict=True):
        depth[mask <= 0.5] = torch.nan
    return prediction, target, *masks


def scored(*batches: tuple[torch.Tensor, ...], fit_scale: bool = False) -> dict[str, float]:
    """Means after batches of four tensors and the objects' indices."""
    metrics = DepthMetrics(fit_scale)
    for batch in batches:
        metrics.update(*batch)
    return {name: float(value) for name, value in metrics.compute().items()}


def by_hand(everything: tuple[torch.Tensor, ...], fit_scale: bool) -> dict[str, float]:
    """The same means, pixel by pixel in float64."""
    prediction, target, *masks = (part.double().numpy() for part in everything)
    region = (masks[0] > 0.5) & (masks[1] > 0.5)
    rows = []
    for o in range(len(target)):
        pictures = []
        for v in range(target.shape[1]):
            pixels = zip(prediction[o, v][region[o, v]], target[o, v][region[o, v]], strict=True)
            pairs = [(float(p), float(t)) for p, t in pixels]
            if not pairs:
                continue
            scale = sum(p * t for p, t in pairs) / sum(p * p for p, _ in pairs) if fit_scale else 1.0
            pictures.append(np.mean([(abs(scale * p - t), abs(scale * p - t) / t) for p, t in pairs], 0))
        if pictures:
            rows.append(np.mean(pictures, 0))
    return dict(zip(DepthMetrics.NAMES, np.mean(rows, 0).tolist(), strict=True))


@pytest.mark.parametrize("fit_scale", [False, True])
def test_means_are_per_picture_then_per_object(fit_scale):
    everything = views()
    expected = by_hand(everything, fit_scale)
    assert scored((*everything, torch.arange(4)), fit_scale=fit_scale) == pytest.approx(expected, rel=1e-5)
    first, second = ((*(part[piece] for part in everything), torch.arange(4)[piece]) for piece in ([0, 1], [2, 3]))
    assert scored(first, second, fit_scale=fit_scale) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_that_of_the_rounded_depths(dtype):
    halves = tuple(part.to(dtype) for part in views())
    for fit_scale in (False, True):
        figures = scored((*halves, torch.arange(4)), fit_scale=fit_scale)
        assert figures == scored((*(part.float() for part in halves), torch.arange(4)), fit_scale=fit_scale)
        assert figures == pytest.approx(by_hand(halves, fit_scale), rel=1e-5)


def test_an_object_counts_once_however_often_it_is_scored():
    everything = views()
    once = scored((*everything, torch.arange(4)))
    again = [(*(part[chosen] for part in everything), torch.tensor(chosen)) for chosen in ([0, 2], [3, 1], [0, 0])]
    assert scored(*again) == pytest.approx(once, rel=1e-6)
    counted = scored(*((*batch[:4], torch.arange(2) + 2 * k) for k, batch in enumerate(again)))
    assert abs(counted["depth_absolute"] - once["depth_absolute"]) > 1e-2  # what counting it thrice would have given


def test_without_a_common_pixel_there_is_no_figure():
    everything = views()
    assert all(np.isnan(value) for value in scored((*(part[[2]] for part in everything), torch.tensor([2]))).values())


def test_depths_that_cannot_be_compared():
    prediction, target, *masks = views()
    metrics = DepthMetrics()
    with pytest.raises(ValueError, match="positive, finite numbers wherever both masks"):
        metrics.update(prediction, target, *(torch.ones_like(mask) for mask in masks), torch.arange(4))
    with pytest.raises(ValueError, match="must have one shape"):
        metrics.update(prediction, target, masks[0], masks[1][:2], torch.arange(4))
    assert not metrics.objects
