"""Critical counts against SciPy's tests, MAPIE and full enumeration."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mapie.risk_control.methods import compute_hoeffding_bentkus_p_value
from scipy import stats

from keras_cascade.calibration.exact_tests import (
    drop_shown,
    least_needed,
    most_allowed,
)

trials = st.integers(1, 400)
shares = st.floats(0.001, 0.999)
errors = st.sampled_from([0.001, 0.01, 0.05, 0.1, 0.3])


@given(trials, shares, errors)
@settings(max_examples=150, deadline=None)
def test_most_allowed_is_where_scipys_binomial_test_rejects(n, limit, error):
    most = most_allowed(n, limit, error)
    rejected = [
        k
        for k in range(max(0, most - 2), min(n, most + 2) + 1)
        if stats.binomtest(k, n, limit, alternative="less").pvalue <= error
    ]
    assert max(rejected, default=-1) == most


@given(trials, shares, errors)
@settings(max_examples=150, deadline=None)
@example(1, 0.001, 0.001)
def test_least_needed_is_where_scipys_binomial_test_rejects(n, floor, error):
    least = least_needed(n, floor, error)
    rejected = [
        k
        for k in range(max(0, least - 2), min(n, least + 2) + 1)
        if stats.binomtest(k, n, floor, alternative="greater").pvalue <= error
    ]
    assert min(rejected, default=n + 1) == least


def test_shares_that_are_certain():
    assert most_allowed(10, 1.0, 0.05) == 10
    assert least_needed(10, 0.0, 0.05) == 0
    # 0.95^59 = 0.0485 <= 0.05 < 0.95^58 = 0.0510.
    assert most_allowed(59, 0.05, 0.05) == 0
    assert most_allowed(58, 0.05, 0.05) == -1
    assert least_needed(58, 0.95, 0.05) == 59


@pytest.mark.parametrize(("n", "limit"), [(500, 0.02), (5000, 0.01)])
def test_the_same_as_mapies_p_value_for_zero_one_losses(n, limit):
    counts = np.arange(n * limit)
    p_values = compute_hoeffding_bentkus_p_value(
        counts / n, n, limit, binary=True
    )
    rejected = counts[p_values[:, 0] <= 0.05]
    assert rejected.max() == most_allowed(n, limit, 0.05)


@pytest.mark.parametrize(("n", "limit"), [(120, 0.2), (80, 0.3)])
def test_error_probability_by_enumeration(n, limit):
    # Every pair of counts has its multinomial probability; the drop equals
    # the limit, so whatever is shown is a false claim.
    error = 0.1
    pairs = np.array(
        [
            (negative, positive)
            for negative, positive in itertools.product(range(n + 1), repeat=2)
            if negative + positive <= n
        ]
    )
    shown = drop_shown(pairs[:, 0], pairs[:, 1], n, limit, error)
    counts = np.column_stack([pairs, n - pairs.sum(axis=1)])
    worst = 0.0
    for p_help in np.linspace(0.0, (1 - limit) / 2, 41):
        law = [p_help + limit, p_help, 1 - limit - 2 * p_help]
        chance = stats.multinomial.pmf(counts, n, np.clip(law, 0, 1))
        worst = max(worst, chance[shown].sum())
    # Never above, and not safe by being useless.
    assert 0.6 * error <= worst <= error


@pytest.mark.parametrize("p_help", [0.0, 3e-4, 0.002, 0.0107, 0.05])
def test_error_probability_on_5000_examples(p_help):
    # G ~ Binomial(n, g) and, given G, H ~ Binomial(n - G, h / (1 - g)).
    n, limit, error = 5000, 0.01, 0.05
    positive = np.arange(600)
    chance = stats.binom.pmf(positive, n, p_help)
    positive, chance = (
        positive[chance > 1e-12],
        chance[chance > 1e-12],
    )
    negative = np.arange(800)
    critical = np.array(
        [
            negative[
                drop_shown(negative, np.full(800, g), n, limit, error)
            ].max()
            for g in positive
        ]
    )
    below = stats.binom.cdf(
        critical, n - positive, (p_help + limit) / (1 - p_help)
    )
    # Never above, and not safe by being useless.
    assert error / 2 <= chance @ below <= error


FEW = [(59, 0.05), (100, 0.05), (150, 0.03), (300, 0.01), (300, 0.02),
       (300, 0.025), (700, 0.01), (2000, 0.0035)]  # fmt: skip


@pytest.mark.parametrize(("n", "limit"), FEW)
def test_exact_size_of_the_union_with_few_expected_events(n, limit):
    """Enumeration over P(positive flip), with SciPy's binomial law.

    P ~ Binomial(n, p) and, given P, N ~ Binomial(n - P, (p + limit)/(1 - p)):
    the drop equals the limit, so that whatever is shown is a false claim.
    """
    error = 0.05
    positive = np.arange(min(n, 400) + 1)
    negative = np.arange(n + 1)
    shown = drop_shown(negative[:, None], positive[None], n, limit, error)
    # Shown up to a count: fewer negative flips stay shown.
    assert (np.diff(shown.astype(int), axis=0) <= 0).all()
    most = shown.sum(axis=0) - 1
    worst = 0.0
    for p in [0.0, *np.geomspace(1e-6, 0.5, 200)]:
        harm = (p + limit) / (1 - p)
        if harm > 1 or stats.binom.sf(positive[-1], n, p) > 1e-9:
            break
        chance = stats.binom.pmf(positive, n, p)
        worst = max(worst, chance @ stats.binom.cdf(most, n - positive, harm))
    # Never above, and more than the binomial region alone, whose size is
    # `P(N <= its count)`.
    alone = most_allowed(n, limit, error)
    assert stats.binom.cdf(alone, n, limit) - 1e-12 <= worst <= error
    assert worst > 0.04
    # Whatever the binomial test shows is shown; positive flips make room.
    assert (most >= alone).all() and most[0] == alone
    assert most[-1] > alone


def test_too_few_examples_show_nothing():
    # 0.95^58 > 0.05.
    assert not drop_shown(np.array([0]), np.array([5]), 58, 0.05, 0.05).any()


def test_any_drop_is_at_most_everything():
    assert drop_shown(np.array([50]), np.array([0]), 50, 1.0, 0.05).all()


def test_positive_flips_make_room():
    # 5000 · 0.01 = 50 expected. With 40 positive flips, more negative ones
    # are allowed than the test of these alone allows, and fewer than 40 more.
    alone = most_allowed(5000, 0.01, 0.05)
    negative = np.arange(200)
    shown = drop_shown(negative, np.full(200, 40), 5000, 0.01, 0.05)
    assert alone < negative[shown].max() < alone + 40


@given(
    st.integers(0, 300), st.integers(0, 300), st.integers(0, 50),
    st.integers(0, 50),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_fewer_negative_and_more_positive_flips_stay_shown(
    negative, positive, less, more
):
    one, other = drop_shown(
        np.array([negative, max(negative - less, 0)]),
        np.array([positive, positive + more]),
        5000,
        0.02,
        0.05,
    )
    assert other or not one
