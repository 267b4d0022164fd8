"""Columns of example results with ties and weights, for hypothesis."""

import itertools

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

SCORES = st.one_of(
    st.sampled_from([0.0, 0.25, 0.5]),  # ties
    st.floats(-10, 10, width=32),
)


@st.composite
def columns(draw, max_rows=12, weights="some", scores=SCORES):
    """`scores, student_correct, teacher_correct, sample_weight`.

    Weights are small integers, so that repeating an example is the same; some
    are 0.
    """
    rows = draw(st.integers(1, max_rows))
    values = draw(hnp.arrays("float64", rows, elements=scores))
    correct = hnp.arrays(bool, rows)
    student, teacher = draw(correct), draw(correct)
    weight = None
    if weights == "some" and draw(st.booleans()):
        weight = draw(
            hnp.arrays("float64", rows, elements=st.integers(0, 3)).filter(
                lambda w: w.sum() > 0
            )
        )
    return values, student, teacher, weight


@st.composite
def correctness(draw, max_rows=30, dtypes=("float32", "float64")):
    """`scores, student_correct, teacher_correct` of either precision."""
    rows = draw(st.integers(1, max_rows))
    dtype = draw(st.sampled_from(dtypes))
    width = 32 if dtype == "float32" else 64
    values = st.one_of(
        st.sampled_from([0.0, 0.25, 0.5]),  # ties
        st.floats(-(2.0**100), 2.0**100, width=width),
    )
    scores = draw(hnp.arrays(dtype, rows, elements=values))
    correct = hnp.arrays(bool, rows)
    return scores, draw(correct), draw(correct)


def repeated(scores, student, teacher, weight):
    """The same examples without weights, each as often as its weight."""
    if weight is None:
        return scores, student, teacher
    times = weight.astype(int)
    return tuple(
        np.repeat(column, times) for column in (scores, student, teacher)
    )


def orders(keys):
    """Every order in which ascending `keys` can be sorted."""
    for order in itertools.permutations(range(len(keys))):
        if all(keys[a] <= keys[b] for a, b in itertools.pairwise(order)):
            yield list(order)
