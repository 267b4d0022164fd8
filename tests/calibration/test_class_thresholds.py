"""Thresholds per predicted class, against one fit for each class."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_cascade as kc
from keras_cascade.calibration import OperatingPoint, fit_threshold
from keras_cascade.calibration.class_thresholds import class_groups
from keras_cascade.evaluation import Costs, delegated_at

CLASSES = 5
FREQUENCIES = [0.45, 0.3, 0.2, 0.03, 0.02]


def examples(n, seed=0, frequencies=FREQUENCIES):
    """Columns; the student's errors differ from one class to another."""
    rng = np.random.default_rng(seed)
    classes = len(frequencies)
    predicted = rng.choice(classes, n, p=frequencies)
    scores = rng.random(n).astype("float32")
    right = rng.random(n) < 1 - (0.1 + 0.15 * predicted) * (1 - scores)
    labels = np.where(right, predicted, (predicted + 1) % classes)
    sure = rng.random(n) < 0.97
    return {
        "scores": scores,
        "student_correct": right,
        "teacher_correct": sure,
        "labels": labels,
        "student_labels": predicted,
        "teacher_labels": np.where(sure, labels, (labels + 1) % classes),
    }


def rows_of(columns, rows):
    return {name: values[rows] for name, values in columns.items()}


def test_each_class_is_fitted_alone_at_its_part_of_the_error():
    columns = examples(4000)
    objective = kc.MaxAccuracyDrop(0.04, confidence=0.95)
    point = fit_threshold(
        objective=objective, **columns, per_class=True, classes=CLASSES
    )
    # 4 % and 2 % of 4,000 are about 120 and 80 examples: only class 4 is
    # below 100, so that class 3, the rarest other one, joins it.
    groups = [[0], [1], [2], [3, 4]]
    assert point.pooled_classes == [3, 4]
    assert point.min_class_examples == 100
    for group in groups:
        rows = np.isin(columns["student_labels"], group)
        alone = fit_threshold(
            objective=kc.MaxAccuracyDrop(0.04, confidence=1 - 0.05 / 4),
            **rows_of(columns, rows),
        )
        for c in group:
            assert point.class_thresholds[c] == alone.threshold
    assert point.threshold == max(point.class_thresholds)
    assert point.confidence == 0.95
    assert point.guarantees == [
        {
            "quantity": "accuracy_drop",
            "at_most": 0.04,
            "confidence": 0.95,
            "in_each_predicted_class": True,
        }
    ]
    delegated = (
        columns["scores"]
        < np.float32(point.class_thresholds)[columns["student_labels"]]
    )
    assert point.delegation_rate == delegated.mean()
    answers = np.where(
        delegated, columns["teacher_correct"], columns["student_correct"]
    )
    assert point.accuracy == answers.mean()
    assert OperatingPoint.from_dict(point.to_dict()) == point
    assert "the threshold of the predicted class" in str(point)
    assert "also among the examples of each predicted class" in str(point)


@given(
    st.integers(0, 10_000),
    st.sampled_from(
        [
            (kc.MaxAccuracyDrop(0.05), "accuracy_drop", "at_most"),
            (kc.MinAccuracy(0.8), "accuracy", "at_least"),
            (
                kc.MaxDelegationRate(0.4, tolerance=1.0),
                "delegation_rate",
                "at_most",
            ),
            (
                kc.MaxExpectedCost(1 - np.eye(3), 0.25),
                "expected_cost",
                "at_most",
            ),
        ]
    ),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_the_objective_holds_in_every_class_and_so_in_all(
    seed, asked, weighted
):
    objective, quantity, side = asked
    columns = examples(150, seed, [0.5, 0.3, 0.2])
    weight = None
    if weighted:
        weight = np.random.default_rng(seed).integers(1, 4, 150).astype(float)
    try:
        point = fit_threshold(
            objective=objective,
            **columns,
            sample_weight=weight,
            per_class=True,
            min_class_examples=20,
            costs=Costs(0.1, 1.0, "passes", "given"),
        )
    except ValueError as error:
        assert "where the student predicts" in str(error)
        return
    delegated = delegated_at(
        columns["scores"], point.class_thresholds, columns["student_labels"]
    )
    right = np.where(
        delegated, columns["teacher_correct"], columns["student_correct"]
    )
    answer = np.where(
        delegated, columns["teacher_labels"], columns["student_labels"]
    )
    values = {
        "accuracy_drop": columns["teacher_correct"] * 1.0 - right,
        "accuracy": right,
        "delegation_rate": delegated,
        "expected_cost": answer != columns["labels"],
    }[quantity]
    limit = getattr(objective, objective.limit)
    groups = class_groups(columns["student_labels"], 3, 20)
    for group in (*groups, [0, 1, 2]):
        rows = np.isin(columns["student_labels"], group)
        mean = np.average(
            values[rows], weights=None if weight is None else weight[rows]
        )
        assert (
            mean <= limit + 1e-9
            if side == "at_most"
            else (mean >= limit - 1e-9)
        )


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=60),
    st.integers(1, 20),
)
def test_groups_hold_every_class_once_and_enough_examples(
    predicted, min_examples
):
    groups = class_groups(predicted, 7, min_examples)
    assert sorted(c for group in groups for c in group) == list(range(7))
    sizes = [sum(np.isin(predicted, group)) for group in groups]
    alone = [group for group in groups if len(group) == 1]
    assert len(groups) - len(alone) <= 1
    if len(groups) > 1:
        assert min(sizes) >= min_examples


def test_what_has_too_few_examples_is_delegated():
    columns = examples(300, 3)
    point = fit_threshold(
        objective=kc.MaxAccuracyDrop(0.01, confidence=0.95),
        **columns,
        per_class=True,
        min_class_examples=30,
    )
    # ln(0.0125) / ln(0.99) = 436 examples show a drop of 1 % where there is
    # none: nothing can be kept.
    assert point.delegation_rate == 1
    assert set(point.class_thresholds) == {float(np.finfo("float32").max)}


def test_scores_that_tie_in_a_class_are_delegated_together_or_kept():
    columns = examples(1000, 4, [0.5, 0.5])
    columns["scores"][columns["student_labels"] == 0] = 0.5
    point = fit_threshold(
        objective=kc.MinAccuracy(0.9), **columns, per_class=True
    )
    rows = columns["student_labels"] == 0
    keeps = columns["student_correct"][rows].mean() >= 0.9
    limits = np.finfo("float32")
    expected = limits.min if keeps else limits.max
    assert point.class_thresholds[0] == float(expected)


@pytest.mark.parametrize(
    "objective, kwargs, message",
    [
        (
            kc.MinRecall(0, 0.9),
            {},
            r"MinRecall\(0, 0\.9\) is about examples of several predicted",
        ),
        (
            [kc.MinAccuracy(0.5), kc.MinPrecision(0, 0.5)],
            {},
            "Calibrate with one threshold",
        ),
        (
            kc.MinAccuracy(0.999),
            {},
            "where the student predicts class 0: .* cannot be met",
        ),
        (
            kc.MinAccuracy(0.999, confidence=0.95),
            {"class_names": ["red", "green", "blue", "pink", "grey"]},
            "the student predicts class 'red': .*cannot be guaranteed",
        ),
        (kc.MinAccuracy(0.5), {"min_class_examples": 0}, "whole number"),
        (
            kc.MinAccuracy(0.5),
            {"student_labels": None},
            "needs `labels`, `student_labels` and `teacher_labels`",
        ),
    ],
)
def test_what_cannot_be_split_or_met_is_refused(objective, kwargs, message):
    columns = {**examples(2000), "per_class": True, **kwargs}
    with pytest.raises(ValueError, match=message):
        fit_threshold(objective=objective, **columns)
