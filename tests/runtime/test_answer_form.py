"""Answers and labels of logits, against SciPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import special

from keras_cascade.utils.answer_form import AnswerForm, numpy_sigmoid

LOGITS = hnp.arrays(
    "float32",
    hnp.array_shapes(min_dims=2, max_dims=4, max_side=4),
    elements=st.floats(-120, 120, width=32),
)
ORACLES = {
    "softmax": lambda logits: special.softmax(logits, axis=-1),
    "sigmoid": special.expit,
    "linear": lambda logits: logits,
}


@pytest.mark.parametrize("activation", ORACLES)
@settings(max_examples=50, deadline=None)
@given(logits=LOGITS)
def test_answers_are_those_of_scipy(activation, logits):
    form = AnswerForm(logits.shape[1:], activation, one_class=False)
    expected = ORACLES[activation](logits.astype("float64"))
    np.testing.assert_allclose(form.of_logits(logits), expected, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(logits=LOGITS)
def test_labels(logits):
    sizes = logits.shape[1:]
    index = AnswerForm(sizes, "softmax", False).labels(logits)
    assert index.tolist() == np.argmax(logits, axis=-1).tolist()
    # p >= 1/2 where the logit is at least 0; no p rounds to 1/2 from below,
    # as those of float32 logits are computed in float64.
    form = AnswerForm(sizes, "sigmoid", False)
    safe = np.where(np.abs(logits) < 1e-6, 0.0, logits)
    assert (form.labels(form.of_logits(safe)) == (safe >= 0)).all()
    values = AnswerForm(sizes, "linear", False).labels(logits)
    assert values is not logits
    assert np.array_equal(values, logits)


def test_a_sigmoid_far_out_keeps_its_digits_and_does_not_overflow():
    with np.errstate(all="raise"):
        found = numpy_sigmoid([-700.0, 0.0, 700.0])
    np.testing.assert_allclose(found, [np.exp(-700.0), 0.5, 1.0], rtol=1e-12)


def test_distances_by_hand():
    one, other = np.zeros((2, 2, 2)), np.zeros((2, 2, 2))
    one[..., 0], other[0, :, 1], other[1, 0, 0], other[1, 1, 1] = 1, 1, 1, 1
    # Both places of the first row hold another class, one of the second.
    form = AnswerForm((2, 2), "softmax", False)
    assert form.distance(one, other).tolist() == [1.0, 0.5]
    # Differences of 1 in all four numbers, and in two of four.
    form = AnswerForm((2, 2), "sigmoid", False)
    assert form.distance(one, other).tolist() == [1.0, 0.5]
