"""Figure 7's accuracies against one mask a threshold."""

import numpy as np
import pytest
from hypothesis import given, settings

from keras_cascade.evaluation import (
    deferral_curve,
    delegated_at,
    selective_accuracy,
)
from tests.helpers.example_columns import columns


@given(columns(max_rows=20))
@settings(max_examples=200, deadline=None)
def test_kept_sets_by_hand(case):
    scores, student, teacher, weight = case
    kept = selective_accuracy(*case)
    thresholds = deferral_curve(*case).thresholds
    weight = np.ones(len(scores)) if weight is None else weight
    expected = []
    for threshold in thresholds:
        inside = scores >= threshold
        if weight[inside].sum() > 0:
            expected.append(
                (
                    threshold,
                    weight[inside].sum() / weight.sum(),
                    np.average(student[inside], weights=weight[inside]),
                    np.average(teacher[inside], weights=weight[inside]),
                )
            )
    found = np.stack(
        [
            kept.thresholds,
            kept.coverage,
            kept.student_accuracy,
            kept.teacher_accuracy,
        ],
        axis=1,
    )
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert found[0, 1] == 1.0
    assert (found[:, 1:] <= 1).all()


def test_a_threshold_is_compared_in_the_precision_of_the_scores():
    # 0.7 as float32 is below 0.7 as float64: on the device they are equal.
    score = np.array([0.7], "float32")
    assert not delegated_at(score, 0.7)[0]
    assert delegated_at(score, np.nextafter(score, np.float32(1))[0])[0]
    assert delegated_at(score, 1e300)[0]
    assert delegated_at([1, 2], 2).tolist() == [True, False]
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="finite threshold"):
            delegated_at(score, bad)
