"""Bins against a loop and against scikit-learn's calibration curve."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from keras_cascade.evaluation import (
    expected_calibration_error,
    reliability_diagram,
)
from tests.helpers.example_columns import columns, repeated

EDGES = st.sampled_from([k / 15 for k in range(16)])
CONFIDENCE = st.one_of(EDGES, st.floats(0, 1, width=32))


@given(columns(max_rows=30, scores=CONFIDENCE), st.integers(1, 20))
@settings(max_examples=200, deadline=None)
def test_bins_by_hand(case, bins):
    confidence, correct, _, weight = case
    diagram = reliability_diagram(confidence, correct, weight, bins)
    error = expected_calibration_error(confidence, correct, weight, bins)
    edges = np.linspace(0, 1, bins + 1)
    confidence, correct, _ = repeated(confidence, correct, correct, weight)
    expected = 0.0
    for place in range(bins):
        inside = (confidence > edges[place]) & (confidence <= edges[place + 1])
        if place == 0:
            inside |= confidence == 0
        assert diagram.weight[place] == pytest.approx(inside.mean())
        if not inside.any():
            assert np.isnan(diagram.accuracy[place])
            assert diagram.to_dict()["accuracy"][place] is None
            continue
        mean, accuracy = confidence[inside].mean(), correct[inside].mean()
        assert diagram.confidence[place] == pytest.approx(mean)
        assert diagram.accuracy[place] == pytest.approx(accuracy)
        expected += inside.mean() * abs(mean - accuracy)
    assert error == pytest.approx(expected, abs=1e-12)


def test_filled_bins_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    confidence = rng.random(500)
    correct = rng.random(500) < confidence
    diagram = reliability_diagram(confidence, correct)
    filled = diagram.weight > 0
    accuracy, mean = calibration_curve(correct, confidence, n_bins=15)
    np.testing.assert_allclose(diagram.accuracy[filled], accuracy)
    np.testing.assert_allclose(diagram.confidence[filled], mean)


def test_known_errors():
    # Always sure and right: no gap. Always sure, right half the time: 1/2.
    assert expected_calibration_error([1.0, 1.0], [1, 1]) == 0.0
    assert expected_calibration_error([1.0, 1.0], [1, 0]) == 0.5
    # Weighted 3 to 1: right 3/4 of the time.
    assert expected_calibration_error([1.0, 1.0], [1, 0], [3, 1]) == 0.25


def test_a_float32_softmax_may_stray_above_one():
    assert reliability_diagram([np.float32(1.0000001)], [1]).weight[-1] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], []), "one number an example"),
        (([3.5], [1]), "probabilities, not logits"),
        (([-0.5], [1]), "probabilities, not logits"),
        (([np.nan, 0.5], [1, 1]), "NaN or infinity in 1 of 2"),
        (([0.5, 0.5], [1]), "one value for each of 2"),
        (([0.5], [0.3]), "correct to hold booleans"),
        (([0.5], [1], [1, 2]), "sample_weight to hold 1 numbers"),
        (([0.5], [1], None, 0), "`bins` to be an int >= 1"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        reliability_diagram(*arguments)
