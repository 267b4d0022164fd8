"""Figure 7's accuracies against one mask per threshold."""

import numpy as np
from hypothesis import given, settings

from keras_cascade.evaluation import (
    deferral_curve,
    selective_accuracy,
)
from tests.helpers.example_columns import columns


@given(columns(max_rows=20))
@settings(max_examples=200, deadline=None)
def test_selective_accuracy_by_hand(case):
    scores, student, teacher, weight = case
    selective = selective_accuracy(*case)
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
            selective.thresholds,
            selective.coverage,
            selective.student_accuracy,
            selective.teacher_accuracy,
        ],
        axis=1,
    )
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert found[0, 1] == 1.0
    assert (found[:, 1:] <= 1).all()
