"""Areas against every order of the ties; the oracle against every order."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_cascade.evaluation import (
    UndefinedMetricError,
    deferral_area,
    deferral_curve,
    deferral_score,
    oracle_curve,
    random_area,
)
from tests.helpers.example_columns import columns, orders


def path_area(order, student, teacher, weight):
    """Area under the curve that delegates one example after the other."""
    rates, accuracies = [0.0], [np.dot(weight, student)]
    for place in order:
        gain = int(teacher[place]) - int(student[place])
        rates.append(rates[-1] + weight[place])
        accuracies.append(accuracies[-1] + gain * weight[place])
    return np.trapezoid(accuracies, rates) / weight.sum() ** 2


@given(columns(max_rows=6))
@settings(max_examples=60, deadline=None)
def test_area_is_the_mean_over_all_orders_of_tied_examples(case):
    scores, student, teacher, weight = case
    found = deferral_area(deferral_curve(*case))
    weight = np.ones(len(scores)) if weight is None else weight
    areas = [
        path_area(order, student, teacher, weight) for order in orders(scores)
    ]
    assert found == pytest.approx(np.mean(areas), abs=1e-12)


@given(columns(max_rows=6))
@settings(max_examples=60, deadline=None)
def test_no_order_beats_the_oracle(case):
    _, student, teacher, weight = case
    found = deferral_area(oracle_curve(student, teacher, weight))
    weight = np.ones(len(student)) if weight is None else weight
    best = max(
        path_area(order, student, teacher, weight)
        for order in itertools.permutations(range(len(student)))
    )
    assert found == pytest.approx(best, abs=1e-12)


@given(columns(max_rows=6))
@settings(max_examples=60, deadline=None)
def test_the_random_area_is_the_mean_over_all_orders(case):
    _, student, teacher, weight = case
    found = random_area(deferral_curve(*case))
    weight = np.ones(len(student)) if weight is None else weight
    mean = np.mean(
        [
            path_area(order, student, teacher, weight)
            for order in itertools.permutations(range(len(student)))
        ]
    )
    assert found == pytest.approx(mean, abs=1e-12)


@given(columns(max_rows=30))
@settings(max_examples=200, deadline=None)
def test_the_score_is_between_the_worst_and_the_ideal(case):
    scores, student, teacher, weight = case
    gain = teacher.astype(int) - student
    counts = np.ones(len(gain), bool) if weight is None else weight > 0
    if len(set(gain[counts])) == 1:
        with pytest.raises(UndefinedMetricError, match="no order"):
            deferral_score(*case)
        return
    assert -1 - 1e-12 <= deferral_score(*case) <= 1 + 1e-12
    ideal = student.astype(float) - teacher
    assert deferral_score(ideal, *case[1:]) == pytest.approx(1)
    # Backwards, every area is mirrored at the random one.
    assert deferral_score(-ideal, *case[1:]) == pytest.approx(-1)
    assert deferral_score(0 * scores, *case[1:]) == pytest.approx(0, abs=1e-12)
    assert deferral_score(-scores, *case[1:]) == pytest.approx(
        -deferral_score(*case), abs=1e-12
    )


@given(columns(max_rows=20), st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_rate_to_reach_is_the_lowest(case, accuracy):
    scores, student, teacher, weight = case
    curve = deferral_curve(*case)
    reaching = [
        np.average(scores < t, weights=weight)
        for t in [*np.unique(scores), np.inf]
        if np.average(np.where(scores < t, teacher, student), weights=weight)
        >= accuracy - 1e-12
    ]
    if not reaching:
        with pytest.raises(ValueError, match="the highest that any threshold"):
            curve.rate_to_reach(accuracy)
    else:
        assert curve.rate_to_reach(accuracy) == pytest.approx(min(reaching))


def test_the_teacher_is_always_reached():
    # Sums of 0.1 are not exact: the teacher must be reached nevertheless.
    weight = np.full(7, 0.1)
    curve = deferral_curve(
        np.arange(7.0), [0, 1, 1, 1, 1, 1, 0], np.ones(7), weight
    )
    assert curve.rate_to_reach(curve.teacher_accuracy) == 1.0
    curve = deferral_curve(
        np.arange(7.0), [0, 1, 1, 1, 1, 1, 1], np.ones(7), weight
    )
    assert curve.rate_to_reach(1.0) == pytest.approx(1 / 7)
    # Three tenths of weights 0.1 sum to more than 0.3.
    weight = np.full(10, 0.1)
    curve = deferral_curve(np.arange(10.0), np.zeros(10), np.ones(10), weight)
    assert curve.accuracy_at(0.3) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 0], [1]), "teacher_correct to hold one value for each of 2"),
        (([-0.5], [1]), "student_correct to hold booleans"),
        (([], []), "at least one example"),
        (([1], [1], [-1.0]), "sample_weight"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        oracle_curve(*arguments)
