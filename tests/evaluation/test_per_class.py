"""Rows of the class table against one mask per class."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_cascade.evaluation import (
    UndefinedMetricError,
    per_class,
    worst_class,
)
from tests.helpers.example_columns import columns


@given(columns(max_rows=20), st.data())
@settings(max_examples=200, deadline=None)
def test_rows_by_hand(case, data):
    scores, student, teacher, weight = case
    rows = len(scores)
    labels = np.array(
        data.draw(st.lists(st.integers(0, 3), min_size=rows, max_size=rows))
    )
    delegated = scores < 0.3
    table = per_class(labels, student, teacher, delegated, weight)
    weight = np.ones(rows) if weight is None else weight
    assert [row["class"] for row in table] == sorted(set(labels.tolist()))
    for row in table:
        mine = labels == row["class"]
        assert row["examples"] == mine.sum()
        assert row["share"] == pytest.approx(weight[mine].sum() / weight.sum())
        for name, column in (
            ("student_accuracy", student),
            ("teacher_accuracy", teacher),
            ("cascade_accuracy", np.where(delegated, teacher, student)),
            ("delegation_rate", delegated),
        ):
            if weight[mine].sum() == 0:
                assert row[name] is None
            else:
                mean = np.average(column[mine], weights=weight[mine])
                assert row[name] == pytest.approx(mean)
    known = [r for r in table if r["student_accuracy"] is not None]
    worst = worst_class(table)
    assert worst["accuracy"] == min(r["student_accuracy"] for r in known)


def test_without_a_threshold_the_cascade_is_left_out():
    table = per_class(["a", "b"], [1, 0], [1, 1])
    assert [row["class"] for row in table] == ["a", "b"]
    assert table[0]["cascade_accuracy"] is table[0]["delegation_rate"] is None
    with pytest.raises(UndefinedMetricError, match="cascade_accuracy"):
        worst_class(table, "cascade_accuracy")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], [], []), "one class an example"),
        (([0, 1], [1], [1, 1]), "student_correct to hold one value"),
        (([0, 1], [1, 1], [1.5, 1]), "teacher_correct to hold booleans"),
        (([0, np.nan], [1, 1], [1, 1]), "labels to be finite"),
        (([0], [1], [1], [1, 0]), "delegated to hold one value"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        per_class(*arguments)
