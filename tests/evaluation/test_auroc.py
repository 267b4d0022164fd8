"""AUROC over every pair."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_cascade.evaluation import (
    UndefinedMetricError,
    auroc_delegating_helps,
    auroc_student_right,
)
from tests.helpers.example_columns import SCORES, columns

HUGE = st.one_of(SCORES, st.sampled_from([-1e308, 1e308, 5e-324]))


def over_pairs(scores, positive, weight):
    """Weighted share of (positive, negative) pairs in the right order."""
    weight = np.ones(len(scores)) if weight is None else weight
    above = 1.0 * (scores[:, None] > scores) + 0.5 * (scores[:, None] == scores)
    pairs = np.outer(weight * positive, weight * ~positive)
    return (pairs * above).sum() / pairs.sum() if pairs.sum() else None


@given(columns(scores=HUGE))
@settings(max_examples=300, deadline=None)
def test_student_right(case):
    scores, student, _, weight = case
    expected = over_pairs(scores, student, weight)
    if expected is None:
        with pytest.raises(UndefinedMetricError, match="every example"):
            auroc_student_right(scores, student, weight)
    else:
        found = auroc_student_right(scores, student, weight)
        assert found == pytest.approx(expected, abs=1e-12)


@given(columns(scores=HUGE))
@settings(max_examples=300, deadline=None)
def test_delegating_helps(case):
    scores, student, teacher, weight = case
    expected = over_pairs(-scores, teacher & ~student, weight)
    if expected is None:
        with pytest.raises(UndefinedMetricError, match="delegating helps"):
            auroc_delegating_helps(*case)
    else:
        found = auroc_delegating_helps(*case)
        assert found == pytest.approx(expected, abs=1e-12)


def test_the_reason_names_what_is_missing():
    with pytest.raises(UndefinedMetricError, match="right on every"):
        auroc_student_right([0.1, 0.2], [1, 1])
    with pytest.raises(UndefinedMetricError, match="wrong on every"):
        auroc_student_right([0.1, 0.2], [0, 0])
    with pytest.raises(UndefinedMetricError, match="helps on no example"):
        auroc_delegating_helps([0.1, 0.2], [0, 1], [0, 1])
    with pytest.raises(ValueError, match="NaN or infinity"):
        auroc_student_right([np.nan, 0.2], [0, 1])
