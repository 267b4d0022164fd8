"""Resamples against rows drawn one by one, intervals against SciPy."""

import json

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keras_cascade.evaluation import (
    UndefinedMetricError,
    bootstrap,
    bootstrap_curve,
    deferral_area,
    deferral_curve,
    deferral_score,
)
from keras_cascade.evaluation.bootstrap import ResampledCurve
from tests.helpers.example_columns import columns

RATES = np.array([0.0, 0.1, 0.25, 0.5, 1.0])
THRESHOLD = 0.4


def score(scores, student, teacher, weight):
    """The deferral score, NaN where it is undefined."""
    try:
        return deferral_score(scores, student, teacher, weight)
    except UndefinedMetricError:
        return np.nan


def accuracy(scores, student, teacher, weight):
    """The cascade's accuracy at the threshold."""
    right = np.where(scores < THRESHOLD, teacher, student)
    return np.average(right, weights=weight)


def delegation_rate(scores, student, teacher, weight):
    """The delegation rate at the threshold."""
    return np.average(scores < THRESHOLD, weights=weight)


MEASURES = {
    "area": lambda *c: deferral_area(deferral_curve(*c)),
    "score": score,
    "accuracy": accuracy,
    "delegation_rate": delegation_rate,
    "accuracy_at": lambda *c: [
        deferral_curve(*c).accuracy_at(r) for r in RATES
    ],
}


@given(columns(max_rows=10), st.data())
@settings(max_examples=200, deadline=None)
def test_a_resample_is_its_rows(case, data):
    scores, student, teacher, weight = case
    n = len(scores)
    weight = np.ones(n) if weight is None else weight + 0.5
    drawn = data.draw(
        hnp.arrays("int64", (3, n), elements=st.integers(0, n - 1))
    )
    counts = np.stack([np.bincount(rows, minlength=n) for rows in drawn])
    curve = ResampledCurve(scores, student, teacher, weight, RATES, THRESHOLD)
    found = curve.measure(counts)
    for place, rows in enumerate(drawn):
        columns = [c[rows] for c in (scores, student, teacher, weight)]
        assert MEASURES.keys() == found.keys()
        for name, measure in MEASURES.items():
            np.testing.assert_allclose(
                found[name][place], measure(*columns), atol=1e-9, err_msg=name
            )


def test_resamples_are_uniform_and_do_not_depend_on_blocks(monkeypatch):
    draws = np.concatenate(list(bootstrap.resampled_counts(50, 2000, 3)))
    assert draws.shape == (2000, 50)
    assert (draws.sum(axis=1) == 50).all()
    # Counts are binomial(50, 1/50): mean 1, variance 0.98.
    error = np.sqrt(0.98 / 2000)
    assert np.abs(draws.mean(axis=0) - 1).max() < 5 * error
    assert draws.var() == pytest.approx(0.98, rel=0.05)
    monkeypatch.setattr(bootstrap, "BLOCK", 170)
    again = np.concatenate(list(bootstrap.resampled_counts(50, 2000, 3)))
    np.testing.assert_array_equal(draws, again)
    monkeypatch.setattr(bootstrap, "BLOCK", 1)
    blocks = list(bootstrap.resampled_counts(50, 4, 3))
    assert [len(block) for block in blocks] == [1] * 4
    np.testing.assert_array_equal(np.concatenate(blocks), draws[:4])


def population(n, seed, weighted=True):
    """Scores that know something, a good teacher and a weaker student."""
    rng = np.random.default_rng(seed)
    scores = rng.random(n).round(2)  # some ties
    student = rng.random(n) < 0.3 + 0.6 * scores
    teacher = rng.random(n) < 0.9
    weight = rng.choice([0.5, 1.0, 4.0], n) if weighted else np.ones(n)
    return scores, student, teacher, weight


@pytest.mark.parametrize(
    "name", ["area", "score", "accuracy", "delegation_rate"]
)
def test_intervals_are_those_of_scipy(name):
    case = population(60, seed=1)
    draws = 4000
    found = bootstrap_curve(*case, THRESHOLD, resamples=draws)[name]
    statistic = MEASURES[name]

    expected = scipy.stats.bootstrap(
        case, statistic, paired=True, vectorized=False, n_resamples=draws,
        method="percentile", rng=np.random.default_rng(5),
    )  # fmt: skip
    assert found["value"] == pytest.approx(statistic(*case))
    # The 2.5 % point of a near-normal sample of size B has standard error
    # sqrt(.025·.975 / B) / φ(-1.96) = 2.67 / sqrt(B) standard deviations;
    # 4 of them for a difference of two.
    slack = 4 * np.sqrt(2 / draws) * 2.67 * expected.standard_error
    interval = expected.confidence_interval
    assert found["low"] == pytest.approx(interval.low, abs=slack)
    assert found["high"] == pytest.approx(interval.high, abs=slack)


def test_the_band_is_that_of_scipy():
    case = population(60, seed=2)
    found = bootstrap_curve(*case, rates=[0.1, 0.5], resamples=4000)["band"]
    for place, rate in enumerate(found["delegation_rate"]):

        def statistic(*drawn, rate=rate):
            return deferral_curve(*drawn).accuracy_at(rate)

        assert found["accuracy"][place] == pytest.approx(statistic(*case))
        expected = scipy.stats.bootstrap(
            case, statistic, paired=True, vectorized=False, n_resamples=4000,
            method="percentile", rng=np.random.default_rng(6),
        )  # fmt: skip
        slack = 4 * np.sqrt(2 / 4000) * 2.67 * expected.standard_error
        interval = expected.confidence_interval
        assert found["low"][place] == pytest.approx(interval.low, abs=slack)
        assert found["high"][place] == pytest.approx(interval.high, abs=slack)


def test_the_interval_covers_the_truth():
    # Scores are uniform on 0, .01 ... 1 (rounding halves the ends), the
    # teacher is right on 0.9 and the student on 0.3 + 0.6 s. Delegating up to
    # s: area = ∫ accuracy over s = 0.9·(1/2) + E[s·(0.3 + 0.6 s)] as s is
    # also the delegation rate at which an example is reached, ties halved:
    # 0.45 + 0.15 + 0.2, within 1e-4 for the rounding.
    covered = []
    for seed in range(200):
        case = population(150, seed=100 + seed, weighted=False)
        area = bootstrap_curve(*case, rates=[0.5], resamples=200)["area"]
        covered.append(area["low"] <= 0.8 <= area["high"])
    # 95 % less 3 standard errors less 2 points, which a percentile
    # interval may lack at this size.
    assert np.mean(covered) > 0.95 - 3 * np.sqrt(0.95 * 0.05 / 200) - 0.02


def test_an_interval_is_the_middle_of_the_resamples():
    # The first value is the estimate and no resample. Of 0 ... 99, 5 % lie
    # below 4.95.
    values = np.append(1000.0, np.arange(100.0)[::-1])
    found = bootstrap.percentile_interval(values, 0.9)
    np.testing.assert_allclose(found, [1000, 4.95, 94.05])
    # NaN in fewer resamples than lie beyond an end is left out.
    values[np.isin(values, [0, 99])] = np.nan
    found = bootstrap.percentile_interval(values, 0.9)
    np.testing.assert_allclose(found, [1000, 1 + 4.85, 98 - 4.85])


def test_examples_without_weight_are_left_out():
    scores, student, teacher, weight = population(40, seed=3)
    weight[::2] = 0
    some = weight > 0
    found = bootstrap_curve(scores, student, teacher, weight, 0.5)
    expected = bootstrap_curve(
        scores[some], student[some], teacher[some], weight[some], 0.5
    )
    assert found == expected


def test_a_rate_is_attained_up_to_rounding():
    # Three of ten weights of 0.1 sum to more than 0.3.
    band = bootstrap_curve(
        np.arange(10.0), np.zeros(10), np.ones(10), np.full(10, 0.1),
        rates=[0.3],
    )["band"]  # fmt: skip
    assert band["accuracy"][0] == pytest.approx(0.3)


def test_what_is_undefined_says_why():
    same = bootstrap_curve([0.1, 0.2], [1, 0], [1, 0])
    assert same["score"] is None
    assert "no order of delegation" in same["undefined"]["score"]
    assert same["undefined"]["accuracy"] == "no threshold is given"
    # One helpful example of 20: it is not drawn in (19/20)^20 = 36 %.
    student = np.arange(20) > 0
    rare = bootstrap_curve(np.arange(20.0), student, np.ones(20))
    assert rare["score"] is None
    assert "too many for an interval" in rare["undefined"]["score"]
    assert rare["area"]["high"] == 1.0
    json.dumps(rare, allow_nan=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"confidence": 1.0}, "between 0 and 1"),
        ({"confidence": "95 %"}, "between 0 and 1"),
        ({"resamples": 39}, "at least 40 resamples"),
        ({"resamples": 100.5}, "at least 40 resamples"),
        ({"rates": [0.1, 1.5]}, "rates between 0 and 1"),
        ({"rates": [np.nan]}, "rates between 0 and 1"),
        ({"rates": []}, "rates between 0 and 1"),
        ({"threshold": np.nan}, "finite threshold"),
        ({"sample_weight": [1.0]}, "equally long"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_curve([0.1, 0.2], [1, 0], [1, 1], **options)
