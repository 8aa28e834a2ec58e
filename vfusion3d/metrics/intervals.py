"""How far rates and means over a few objects are to be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """An estimate and the ends of its confidence interval."""

    value: float
    low: float
    high: float


def wilson_interval(successes: int, count: int, level: float = 0.95) -> Interval:
    """A share with its score interval (Wilson 1927), which stays within [0, 1] and is never empty.

    With ``p = successes / count`` and the normal quantile ``z`` its ends are

        (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n).

    Args:
        successes: Of ``count`` independent trials.
        count: Trials; of none the share is NaN and the interval [0, 1].
        level: Confidence, in (0, 1).

    Raises:
        ValueError: if there are more successes than trials, or ``level`` is no confidence.

    Example:
        >>> [round(number, 3) for number in wilson_interval(8, 10)]
        [0.8, 0.49, 0.943]
    """
    _check_level(level)
    if not 0 <= successes <= count:
        raise ValueError(f"Argument `successes` must be in [0, count], but got {successes} of {count}.")
    if count == 0:
        return Interval(float("nan"), 0.0, 1.0)
    share, square = successes / count, NormalDist().inv_cdf((1 + level) / 2) ** 2
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = (square * (share * (1 - share) / count + square / (4 * count**2))) ** 0.5 / (1 + square / count)
    return Interval(share, max(middle - half, 0.0), min(middle + half, 1.0))


def bootstrap_interval(
    values: Sequence[float] | np.ndarray, seed: int = 0, level: float = 0.95, samples: int = 2000
) -> Interval:
    """The mean of objects' figures with its percentile bootstrap interval (Efron 1979); the same each time.

    It is somewhat too narrow for few objects: by a factor of about ``sqrt((n - 1) / n)``.

    Args:
        values: One per object, ``[N]``; NaN is an object without the figure and left out, as by `PerObjectMetric`.
        seed: Of the resampling.
        level: Confidence, in (0, 1).
        samples: How many times the objects are drawn, with replacement.

    Returns:
        Of one object its value and NaN for both ends, which one value cannot tell; of none NaN for all three.

    Raises:
        ValueError: if ``level`` is no confidence.

    Example:
        >>> [round(number, 2) for number in bootstrap_interval([18.1, 21.4, 19.6, 25.0, 20.2])]
        [20.86, 18.94, 23.08]
    """
    _check_level(level)
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    mean = float(known.mean()) if len(known) else float("nan")
    if len(known) < 2:
        return Interval(mean, float("nan"), float("nan"))
    generator = np.random.default_rng(seed)
    means = [known[generator.integers(len(known), size=len(known))].mean() for _ in range(samples)]
    low, high = np.quantile(means, ((1 - level) / 2, (1 + level) / 2))
    return Interval(mean, float(low), float(high))


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"Argument `level` must be in (0, 1), but got {level}.")
