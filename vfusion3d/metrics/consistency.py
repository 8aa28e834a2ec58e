"""Whether neighbouring frames show the same points where the labelled cameras say: the match-based score."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from vfusion3d.cameras import Cameras
from vfusion3d.cameras.conventions import to_opencv_w2c
from vfusion3d.metrics.per_object import PerObjectMetric
from vfusion3d.metrics.silhouettes import masks_on_white

MATCH_LIMIT = 2.0
"""Largest median epipolar error of a consistent pair, pixels."""
_FEWEST = 8  # matches: the median of fewer says nothing
_RATIO = 0.8  # Lowe's: the nearest descriptor over the second nearest
_CONTRAST = 0.0067  # of SIFT, half of the default: renders are smooth; as COLMAP's
_MARGIN = 16  # pixels around the object that features are looked for in
_LUMA = (0.2125, 0.7154, 0.0721)


def epipolar_errors(first: Tensor, second: Tensor, cameras: Cameras, height: int, width: int) -> Tensor:
    """Distances of matched points from each other's epipolar lines, the mean of both, in pixels.

    Args:
        first, second: Matched positions (column, row) in two pictures, ``[N, 2]``, where pixel (0, 0) has its centre at
            (0.5, 0.5).
        cameras: Of the two pictures, ``[2]``.
        height, width: Of both pictures, pixels.

    Returns:
        ``[N]``, float64; 0 for projections of one point.

    Example:
        >>> from vfusion3d.cameras import orbit
        >>> cameras = orbit(views=16)[:2]
        >>> points = torch.tensor([[0.3, 0.2, -0.1], [-0.4, 0.1, 0.5]])
        >>> uv, _ = cameras.project(points.expand(2, -1, 3))
        >>> bool((epipolar_errors(uv[0] * 512, uv[1] * 512, cameras, 512, 512) < 1e-3).all())
        True
    """
    matrices, k = to_opencv_w2c(cameras.to("cpu", torch.float64), width, height)
    motion = matrices[1] @ torch.linalg.inv(matrices[0])
    x, y, z = motion[:3, 3].tolist()
    across = torch.tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]], dtype=torch.float64)
    inverse = torch.linalg.inv(k)
    fundamental = inverse[1].T @ across @ motion[:3, :3] @ inverse[0]
    one, two = (torch.cat([p.double().cpu(), torch.ones(len(p), 1, dtype=torch.float64)], -1) for p in (first, second))
    lines_two, lines_one = one @ fundamental.T, two @ fundamental
    residual = (two * lines_two).sum(-1).abs()
    norms = (lines[:, :2].norm(dim=-1).clamp_min(1e-12) for lines in (lines_one, lines_two))
    return sum((residual / norm for norm in norms), torch.zeros_like(residual)) / 2


def neighbour_errors(frames: Tensor, cameras: Cameras) -> Tensor:
    """Median epipolar error of the SIFT matches between each frame and the next, in pixels.

    Features are scikit-image's SIFT (Lowe 2004), matched mutually with the ratio test; the last frame's next is the
    first. Pictures should have 256 pixels a side or more: smaller ones have few features, and a pixel says less.

    Args:
        frames: ``[F, 3, H, W]`` in [0, 1]; white surroundings are not searched.
        cameras: What the orbit is labelled with, ``[F]``.

    Returns:
        ``[F]``, float64; NaN where fewer than 8 matches were found.
    """
    height, width = frames.shape[-2:]
    features = [_features(frame) for frame in frames.float().cpu()]
    errors = []
    for k in range(len(frames)):
        pair = [k, (k + 1) % len(frames)]
        first, second = _matches(*(features[index] for index in pair))
        distances = epipolar_errors(first, second, cameras[pair], height, width)
        errors.append(distances.median() if len(distances) >= _FEWEST else distances.new_tensor(torch.nan))
    return torch.stack(errors)


def match_score(frames: Tensor, cameras: Cameras, limit: float = MATCH_LIMIT) -> Tensor:
    """Share of neighbours whose matches fit the labelled cameras: their median epipolar error is under ``limit``.

    Arguments as of `neighbour_errors`, ``limit`` in pixels. Pairs without enough matches do not fit. Only neighbours
    are compared, and on a low orbit all epipolar lines are nearly rows, so that small pictures, or frames that hardly
    turn, may pass all the same: `find_cameras` and `loop_closure` see those.

    Returns:
        A scalar in [0, 1], float32.
    """
    return (neighbour_errors(frames, cameras) < limit).float().mean()


def _features(picture: Tensor) -> tuple[Tensor, np.ndarray]:
    """Positions ``[N, 2]`` (column, row) and descriptors ``[N, 128]`` of a picture's SIFT features."""
    from skimage.feature import SIFT

    grey = (picture * picture.new_tensor(_LUMA)[:, None, None]).sum(0)
    window = _window(picture)
    sift = SIFT(c_dog=_CONTRAST)
    try:
        sift.detect_and_extract(grey[window].double().numpy())
    except (RuntimeError, ValueError):  # no features, or no room for an octave
        return torch.zeros(0, 2), np.zeros((0, 128), np.uint8)
    corner = np.array([window[0].start, window[1].start])
    positions = np.ascontiguousarray((sift.positions + corner + 0.5)[:, ::-1])
    return torch.from_numpy(positions).float(), sift.descriptors


def _window(picture: Tensor) -> tuple[slice, slice]:
    """The box of what is not white, and a margin."""
    rows, columns = masks_on_white(picture).nonzero(as_tuple=True)
    return tuple(  # type: ignore[return-value]
        slice(max(int(index.min()) - _MARGIN, 0), int(index.max()) + 1 + _MARGIN) if len(index) else slice(0, 0)
        for index in (rows, columns)
    )


def _matches(first: tuple[Tensor, np.ndarray], second: tuple[Tensor, np.ndarray]) -> tuple[Tensor, Tensor]:
    """Positions of the features that are each other's nearest, and nearer than the second nearest by far."""
    from skimage.feature import match_descriptors

    if min(len(first[0]), len(second[0])) < 2:
        return torch.zeros(0, 2), torch.zeros(0, 2)
    pairs = torch.from_numpy(match_descriptors(first[1], second[1], cross_check=True, max_ratio=_RATIO))
    return first[0][pairs[:, 0]], second[0][pairs[:, 1]]


class MatchConsistency(PerObjectMetric):
    """Mean of `match_score` over objects, each counted once (`PerObjectMetric`); features are sought on the CPU.

    Args:
        limit: As in `match_score`.
        settings: As of every `torchmetrics.Metric`.
    """

    NAMES = ("match_score",)

    def __init__(self, limit: float = MATCH_LIMIT, **settings: Any) -> None:
        super().__init__(**settings)
        self.limit = limit

    def update(self, frames: Tensor, samples: Tensor, cameras: Cameras) -> None:
        """Score B orbits ``[B, F, 3, H, W]`` in [0, 1] under cameras ``[B, F]``; ``samples`` int64, ``[B]``."""
        scores = [match_score(frames[b], cameras[b], self.limit) for b in range(len(frames))]
        self.record(samples, {"match_score": torch.stack(scores).to(samples.device)})
