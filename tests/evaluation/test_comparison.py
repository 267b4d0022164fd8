"""Paired comparison against SciPy's paired bootstrap, and under the null."""

import json

import numpy as np
import pytest
import scipy.stats

from keras_cascade.datasets.fingerprint import Fingerprint
from keras_cascade.evaluation import (
    ExampleResults,
    compare,
    deferral_area,
    deferral_curve,
    deferral_score,
)


def pair(n, seed, knowing=(1.0, 0.5), weighted=False):
    """Two students of one teacher, whose scores know more or less."""
    rng = np.random.default_rng(seed)
    ease = rng.random(n)
    teacher = rng.random(n) < 0.95
    weight = rng.choice([1.0, 3.0], n) if weighted else None
    results = []
    for knows in knowing:
        student = rng.random(n) < 0.4 + 0.55 * ease
        scores = (knows * ease + (1 - knows) * rng.random(n)).round(2)
        results.append(
            ExampleResults(
                scores, student, teacher, weight, labels=np.arange(n) % 3
            )
        )
    return results


def columns(results):
    weight = results.sample_weight
    return (
        results.scores,
        results.student_correct,
        results.teacher_correct,
        np.ones(len(results)) if weight is None else weight,
    )


def accuracy(threshold, scores, student, teacher, weight):
    return np.average(
        np.where(scores < threshold, teacher, student), weights=weight
    )


def rate(threshold, scores, student, teacher, weight):
    return np.average(scores < threshold, weights=weight)


MEASURES = {
    "area": lambda t, *c: deferral_area(deferral_curve(*c)),
    "score": lambda t, *c: deferral_score(*c),
    "accuracy_at_0.3": lambda t, *c: deferral_curve(*c).accuracy_at(0.3),
    "accuracy": accuracy,
    "delegation_rate": rate,
}


@pytest.mark.parametrize("name", MEASURES)
def test_intervals_are_those_of_scipy(name):
    one, other = pair(60, seed=1, weighted=True)
    thresholds, draws = (0.4, 0.6), 4000
    found = compare(one, other, thresholds, budgets=(0.3,), resamples=draws)
    row = {r["quantity"]: r for r in found["differences"]}[name]
    measure = MEASURES[name]

    def statistic(*drawn):
        return measure(thresholds[0], *drawn[:4]) - measure(
            thresholds[1], *drawn[4:]
        )

    data = (*columns(one), *columns(other))
    expected = scipy.stats.bootstrap(
        data, statistic, paired=True, vectorized=False, n_resamples=draws,
        method="percentile", rng=np.random.default_rng(5),
    )  # fmt: skip
    # As in test_bootstrap: 4 standard errors of a difference of two
    # percentiles.
    slack = 4 * np.sqrt(2 / draws) * 2.67 * expected.standard_error
    interval = expected.confidence_interval
    assert row["one"] == pytest.approx(measure(thresholds[0], *columns(one)))
    assert row["difference"] == pytest.approx(statistic(*data))
    assert row["low"] == pytest.approx(interval.low, abs=slack)
    assert row["high"] == pytest.approx(interval.high, abs=slack)
    assert row["differs"] == (interval.low > 0 or interval.high < 0)


def test_a_cascade_does_not_differ_from_itself():
    one, _ = pair(50, seed=2, weighted=True)
    # The same decisions in another order: sums differ by rounding only.
    weight = one.sample_weight / 7
    one = ExampleResults(*columns(one)[:3], weight)
    mirrored = ExampleResults(
        one.scores**3 + 5, one.student_correct, one.teacher_correct, weight
    )
    found = compare(one, mirrored, resamples=100)
    assert [row["differs"] for row in found["differences"]] == [False] * 7
    assert found["verdict"] == (
        "No difference shown: each of the 7 intervals (95 %) includes 0."
    )
    flipped = ExampleResults(*(c[::-1] for c in columns(one)[:3]), weight[::-1])
    assert compare(flipped, flipped, resamples=100)["verdict"].startswith("No")


def test_rounding_is_no_difference():
    # Both models are right on the same examples: delegating changes nothing,
    # in whatever order the weights are summed.
    rng = np.random.default_rng(0)
    right, weight = rng.random(40) < 0.7, rng.random(40)
    one, other = (
        ExampleResults(sign * np.arange(40.0), right, right, weight)
        for sign in (1, -1)
    )
    rows = compare(one, other, resamples=100)["differences"]
    for row in rows:
        assert row["difference"] == row["low"] == row["high"] == 0.0
        assert not row["differs"]


def test_a_real_difference_is_found_and_named():
    one, other = pair(2000, seed=3, knowing=(1.0, 0.0))
    found = compare(one, other, names=("margin", "noise"))
    assert "margin is above noise in deferral score" in found["verdict"]
    json.dumps(found, allow_nan=False)
    back = compare(other, one, names=("noise", "margin"))
    assert "margin is above noise in deferral score" in back["verdict"]
    for a, b in zip(found["differences"], back["differences"], strict=True):
        assert a["difference"] == -b["difference"]
        assert a["low"] == pytest.approx(-b["high"])


def test_equals_differ_about_as_often_as_guaranteed():
    wrong = 0
    for seed in range(200):
        one, other = pair(150, seed, knowing=(0.7, 0.7))
        found = compare(one, other, budgets=(), resamples=200)
        wrong += found["differences"][0]["differs"]
    # 5 % plus 3 standard errors plus 2 points for the size, as in
    # test_bootstrap.
    assert wrong / 200 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200) + 0.02


def test_pairing_narrows_the_interval():
    # Students that share their hard examples: the paired difference varies
    # less than two measured apart.
    rng = np.random.default_rng(4)
    student, teacher = rng.random(500) < 0.7, rng.random(500) < 0.95
    one, other = (
        ExampleResults(student + rng.normal(size=500), student, teacher)
        for _ in range(2)
    )
    row = compare(one, other, budgets=())["differences"][0]
    apart = [
        scipy.stats.bootstrap(
            columns(results),
            lambda *c: deferral_area(deferral_curve(*c)),
            paired=True, vectorized=False, n_resamples=500,
            rng=np.random.default_rng(7),
        ).standard_error
        for results in (one, other)
    ]  # fmt: skip
    assert row["high"] - row["low"] < 2 * 1.96 * np.hypot(*apart)


def test_an_undefined_difference_says_why():
    always = ExampleResults(np.arange(5.0), np.ones(5), np.ones(5))
    found = compare(always, always)
    assert "no order of delegation" in found["undefined"]["score"]
    assert len(found["differences"]) == 6


def fingerprint(values):
    made = Fingerprint()
    made.update(np.asarray(values, "float32")[:, None])
    return made


def test_only_the_same_examples_are_compared():
    def results(labels=(0, 1, 0), examples=(1, 2, 3), weight=None, n=3):
        return ExampleResults(
            np.arange(float(n)), np.ones(n), np.ones(n), weight,
            None if examples is None else fingerprint(examples),
            None if labels is None else np.array(labels),
        )  # fmt: skip

    def check(other, message):
        with pytest.raises(ValueError, match=message):
            compare(results(), other)

    check(results((0, 1), (1, 2), n=2), "3 and 2 examples")
    check(results(examples=(1, 2, 4)), "fingerprints")
    check(results((1, 0, 0)), "same order")
    check(results(weight=[1.0, 2.0, 1.0]), "same traffic")
    compare(results(), results(None), resamples=40)
    compare(results(), results(examples=None), resamples=40)
    compare(results(), results(weight=[1.0, 1.0, 1.0]), resamples=40)
    with pytest.raises(ValueError, match="two thresholds"):
        compare(results(), results(), thresholds=(0.5,))
    with pytest.raises(ValueError, match="at least 40"):
        compare(results(), results(), resamples=10)
    with pytest.raises(ValueError, match="rates between"):
        compare(results(), results(), budgets=(2,))
