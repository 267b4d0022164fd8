"""Bounds at every threshold at once, by simulation and by their formula."""

import numpy as np
import pytest
from scipy import stats

from keras_cascade.calibration import SimultaneousBounds


def bounds(n, confidence=0.95, seed=0):
    """Bounds of uniform scores, a student that is wrong and a right teacher."""
    scores = np.random.default_rng(seed).random(n)
    student = np.zeros(n, bool)
    return scores, SimultaneousBounds(
        scores, student, ~student, confidence=confidence
    )


@pytest.mark.parametrize("n", [50, 300, 2000])
def test_wrong_as_often_as_stated_and_not_much_more_rarely(n):
    """For uniform scores the delegation rate at t is t itself."""
    sets, wrong = 1_000, 0
    for seed in range(sets):
        scores, found = bounds(n, seed=seed)
        # The bound is a step: its worst point is a score itself, where the
        # rate is as high as it gets before the count rises.
        wrong += (found.delegation_rate(scores) < scores).any()
    error = 3 * np.sqrt(0.05 * 0.95 / sets)
    assert 0.03 - error < wrong / sets <= 0.05 + error


def test_of_flips_as_often_as_of_rates():
    """Every kept example is a negative flip: their share at t is 1 − t."""
    sets, wrong = 500, 0
    for seed in range(sets):
        scores, found = bounds(300, seed=seed)
        just_above = np.nextafter(scores, 2.0)
        wrong += (found.accuracy_drop(just_above) < 1 - scores).any()
    assert wrong / sets <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / sets)


def test_the_middle_is_the_inequality_of_dvoretzky_kiefer_and_wolfowitz():
    scores = np.arange(1000) / 1000
    found = SimultaneousBounds(scores, np.ones(1000), np.ones(1000))
    # Of four fifths of the error; with all of it, 0.539.
    expected = 0.5 + np.sqrt(np.log(1 / 0.04) / 2000)
    assert found.delegation_rate(0.5) == pytest.approx(expected)
    assert expected < 0.5402


@pytest.mark.parametrize("n", [30, 1000, 20_000])
def test_small_shares_have_an_exact_limit(n):
    scores = np.arange(float(n))
    found = SimultaneousBounds(scores, np.ones(n), np.ones(n))
    for count in (0, 1, 3):
        bound = found.delegation_rate(count)
        # No tighter than Clopper and Pearson's limit for one threshold, no
        # wider than at a 500th of the error.
        single, wide = (
            stats.binomtest(count, n, alternative="less")
            .proportion_ci(1 - error)
            .high
            for error in (0.05, 0.05 / 500)
        )
        assert single < bound <= wide
    # Monotone in the count, and never above 1.
    every = found.delegation_rate(np.append(scores, np.inf))
    assert (np.diff(every) >= 0).all()
    assert every[-1] == 1.0


def test_other_confidences_and_no_examples_to_count():
    scores, right = np.arange(500) / 500, np.ones(500)
    tight, wide = (
        SimultaneousBounds(scores, right, right, confidence=c)
        for c in (0.8, 0.999)
    )
    assert 0.5 < tight.delegation_rate(0.5) < wide.delegation_rate(0.5) < 0.6
    one = SimultaneousBounds([0.1, 0.9], [1, 1], [1, 1])
    assert one.delegation_rate(0.5) <= 1.0
