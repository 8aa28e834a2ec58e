from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap

from vfusion3d.metrics import bootstrap_interval, wilson_interval


@pytest.mark.parametrize(("successes", "count"), [(0, 1), (1, 1), (0, 7), (3, 7), (50, 100)])
def test_wilson_is_that_of_scipy(successes, count):
    expected = binomtest(successes, count).proportion_ci(0.9, "wilson")
    value, low, high = wilson_interval(successes, count, level=0.9)
    assert (value, low, high) == pytest.approx((successes / count, expected.low, expected.high), abs=1e-9)


def test_wilson_of_nothing_knows_nothing():
    value, low, high = wilson_interval(0, 0)
    assert math.isnan(value) and (low, high) == (0, 1)


@pytest.mark.parametrize("arguments", [(3, 2), (-1, 2), (1, 2, 1.0), (1, 2, 0.0)])
def test_bad_counts_and_levels(arguments):
    with pytest.raises(ValueError, match=r"Argument `(successes|level)` must be in"):
        wilson_interval(*arguments)


def test_wilson_covers_the_true_rate():
    draws = np.random.default_rng(0).binomial(30, 0.8, size=4000)
    ends = {count: wilson_interval(count, 30) for count in range(31)}
    covered = np.mean([ends[int(count)].low <= 0.8 <= ends[int(count)].high for count in draws])
    assert 0.93 <= covered <= 0.97


def test_bootstrap_is_about_that_of_scipy_and_the_same_each_time():
    values = np.random.default_rng(1).gamma(2, size=40)
    ours = bootstrap_interval(values, seed=3)
    assert ours == bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)
    theirs = bootstrap((values,), np.mean, method="percentile", n_resamples=4000, random_state=0).confidence_interval
    assert ours == pytest.approx((values.mean(), theirs.low, theirs.high), abs=0.05)
    wide = bootstrap_interval(values, level=0.99)
    assert wide.low < ours.low and ours.high < wide.high


def test_bootstrap_covers_the_true_mean():
    generator = np.random.default_rng(0)
    intervals = [bootstrap_interval(generator.normal(5, 2, 40), seed=k, samples=300) for k in range(300)]
    assert 0.9 <= np.mean([low <= 5 <= high for _, low, high in intervals]) <= 0.98


def test_one_value_has_no_interval_and_none_no_mean():
    assert np.isnan(bootstrap_interval([])).all()
    value, low, high = bootstrap_interval([3.0, math.nan])  # an object without the figure
    assert value == 3 and math.isnan(low) and math.isnan(high)
    assert bootstrap_interval([2.0, 2.0, 2.0]) == (2, 2, 2)
    with pytest.raises(ValueError, match="`level`"):
        bootstrap_interval([1.0, 2.0], level=95)
