"""Exact intervals against SciPy, and their coverage by enumeration."""

import itertools

import numpy as np
import pytest
from scipy import stats

from keras_cascade.evaluation import ExampleResults, bootstrap_curve, compare
from keras_cascade.evaluation.exact_intervals import (
    paired_difference_interval,
    share_interval,
)


@pytest.mark.parametrize(("events", "trials"), [(0, 7), (3, 40), (500, 500)])
def test_a_share_is_clopper_and_pearson_s(events, trials):
    for confidence in (0.8, 0.95):
        expected = stats.binomtest(events, trials).proportion_ci(confidence)
        assert share_interval(events, trials, confidence) == pytest.approx(
            tuple(expected)
        )


@pytest.mark.parametrize("gain", [0.0, 0.01, 0.05, 0.3])
@pytest.mark.parametrize("loss", [0.0, 0.02, 0.2])
def test_a_paired_difference_covers_by_enumeration(gain, loss):
    n, missed = 40, 0.0
    for gains, losses in itertools.product(range(n + 1), repeat=2):
        rest = n - gains - losses
        if rest < 0:
            continue
        chance = stats.multinomial.pmf(
            [gains, losses, rest], n, [gain, loss, 1 - gain - loss]
        )
        if chance < 1e-9:
            continue
        low, high = paired_difference_interval(gains, losses, n, 0.95)
        missed += chance * (not low <= gain - loss <= high)
    assert missed <= 0.05


def test_a_paired_difference_is_that_of_its_mirror():
    low, high = paired_difference_interval(6, 0, 1000, 0.95)
    assert (-high, -low) == paired_difference_interval(0, 6, 1000, 0.95)
    # Six to none: 0.02^(1/6) = 0.521 > 1/2. Five to none: 0.457.
    assert low > 0 > paired_difference_interval(5, 0, 1000, 0.95)[0]


def columns(rng, n, accuracy):
    """A cascade that is right at one rate, whoever answers."""
    return rng.random(n), rng.random(n) < accuracy, rng.random(n) < accuracy


@pytest.mark.parametrize("accuracy", [0.98, 0.995, 0.999])
def test_intervals_cover_near_one(accuracy):
    """150 sets of 200 examples, 0.2 to 4 errors of which are expected.

    A percentile interval covers as often as there is any error at all and
    their number is high enough: 18 to 87 % of sets.
    """
    sets = 150
    covered = dict.fromkeys(("accuracy", "area", "band", "difference"), 0)
    for seed in range(sets):
        rng = np.random.default_rng(seed)
        one, other = (columns(rng, 200, accuracy) for _ in range(2))
        found = bootstrap_curve(*one, threshold=0.3, rates=[0.2], resamples=50)
        for name in ("accuracy", "area"):
            covered[name] += (
                found[name]["low"] <= accuracy <= found[name]["high"]
            )
        band = found["band"]
        covered["band"] += band["low"][0] <= accuracy <= band["high"][0]
        (row,) = (
            row
            for row in compare(
                ExampleResults(*one),
                ExampleResults(*other),
                thresholds=(0.3, 0.3),
                budgets=(),
                resamples=50,
            )["differences"]
            if row["quantity"] == "accuracy"
        )
        covered["difference"] += row["low"] <= 0 <= row["high"]
    for name, count in covered.items():
        error = 3 * np.sqrt(0.05 * 0.95 / sets)
        assert count / sets >= 0.95 - error, name


def test_weighted_examples_without_an_error():
    rng = np.random.default_rng(0)
    weight = rng.choice([1.0, 3.0], 100)
    found = bootstrap_curve(
        rng.random(100), np.ones(100), np.ones(100), weight, 0.3
    )
    # Kish's number of examples, none of them wrong.
    trials = weight.sum() ** 2 / (weight**2).sum()
    assert found["accuracy"]["low"] == pytest.approx(0.025 ** (1 / trials))
    assert found["accuracy"]["high"] == 1.0
