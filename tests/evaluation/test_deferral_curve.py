"""The curve against brute force over every threshold."""

import numpy as np
import pytest
from hypothesis import given, settings

from keras_cascade.evaluation import ExampleResults, deferral_curve
from tests.helpers.example_columns import correctness

LARGEST = float(np.finfo("float32").max)


@given(correctness())
@settings(max_examples=300, deadline=None)
def test_every_point_is_what_its_threshold_does(case):
    scores, student, teacher = case
    curve = deferral_curve(scores, student, teacher)
    assert curve.thresholds.dtype == scores.dtype
    for threshold, rate, accuracy in zip(
        curve.thresholds, curve.delegation_rate, curve.accuracy, strict=True
    ):
        delegated = scores < threshold
        answer = np.where(delegated, teacher, student)
        assert rate == pytest.approx(delegated.mean(), abs=1e-12)
        assert accuracy == pytest.approx(answer.mean(), abs=1e-12)


@given(correctness())
@settings(max_examples=300, deadline=None)
def test_every_decision_there_is_has_one_candidate(case):
    scores, student, teacher = case
    curve = deferral_curve(scores, student, teacher)
    splits = {tuple(scores < t) for t in curve.thresholds}
    distinct = np.unique(scores)
    every = {tuple(scores < t) for t in distinct} | {(True,) * len(scores)}
    assert splits == every
    assert len(curve.thresholds) == len(distinct) + 1
    assert (curve.thresholds[1:] > curve.thresholds[:-1]).all()
    assert curve.delegation_rate[0] == 0.0
    assert curve.delegation_rate[-1] == 1.0


def test_candidates_are_midpoints_and_not_rounded():
    curve = deferral_curve(np.array([0.1, 0.2, 0.6]), [1, 1, 1], [1, 1, 1])
    np.testing.assert_allclose(curve.thresholds[1:-1], [0.15, 0.4], rtol=1e-15)


def test_neighbouring_float32_scores_are_still_separated():
    low = np.float32(0.5)
    high = np.nextafter(low, np.float32(1))
    curve = deferral_curve(np.array([low, high]), [0, 1], [1, 0])
    assert curve.accuracy.tolist() == [0.5, 1.0, 0.5]
    assert low < curve.thresholds[1] <= high


def test_weights_count():
    # Delegating the first (weight 3, teacher right) of 4: 3/4 delegated.
    curve = deferral_curve(
        [0.0, 1.0], [False, True], [True, True], sample_weight=[3.0, 1.0]
    )
    np.testing.assert_allclose(curve.delegation_rate, [0, 0.75, 1])
    np.testing.assert_allclose(curve.accuracy, [0.25, 1, 1])
    assert curve.student_accuracy == 0.25


def test_judged_examples_bring_their_weights():
    # The same as above.
    results = ExampleResults(
        [0.0, 1.0], [False, True], [True, True], [3.0, 1.0]
    )
    curve = results.deferral_curve()
    np.testing.assert_allclose(curve.delegation_rate, [0, 0.75, 1])
    np.testing.assert_allclose(curve.accuracy, [0.25, 1, 1])


def test_random_delegation_is_a_straight_line():
    curve = deferral_curve(
        np.arange(10.0), np.arange(10) > 6, np.arange(10) > 0
    )
    np.testing.assert_allclose(
        curve.random_accuracy(), np.linspace(0.3, 0.9, 11)
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], [], []), "at least one example"),
        (([np.nan, 1], [1, 1], [1, 1]), "NaN or infinity in 1 of 2"),
        (([np.inf, 1], [1, 1], [1, 1]), "NaN or infinity in 1 of 2"),
        (([0.1, 0.2], [1], [1, 1]), "equally long"),
        (([[0.1]], [[1]], [[1]]), "one-dimensional"),
        (([0.1], [1.5], [1]), "student_correct to hold booleans"),
        (([0.1], [1], [1], [0.0]), "sample_weight"),
        (([0.1], [1], [1], [-1.0]), "sample_weight"),
        ((np.array([LARGEST], "float32"), [1], [1]), "finite scores"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        deferral_curve(*arguments)
