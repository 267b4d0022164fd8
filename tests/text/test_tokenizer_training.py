"""The choice of sequence lengths."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_cascade.text import choose_length


@given(
    st.lists(st.integers(0, 500), min_size=1, max_size=200),
    st.floats(0.01, 1.0),
    st.integers(1, 16),
)
def test_it_is_the_smallest_multiple_that_holds_the_share(
    counts, share, multiple
):
    length = choose_length(counts, share, multiple)
    counts = np.array(counts)
    assert length % multiple == 0
    assert (counts <= length).mean() >= share - 1e-12
    shorter = length - multiple
    assert shorter == 0 or (counts <= shorter).mean() < share


@pytest.mark.parametrize(
    "counts, share, message",
    [
        ([], 0.99, "at least one text"),
        ([1], 0, "above 0 and at most 1"),
        ([1], 1.5, "above 0 and at most 1"),
    ],
)
def test_bad_input(counts, share, message):
    with pytest.raises(ValueError, match=message):
        choose_length(counts, share)
