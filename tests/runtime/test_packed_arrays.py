"""`pack_arrays` and `unpack_arrays`."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

from keras_cascade.runtime.queueing.packed_arrays import (
    pack_arrays,
    unpack_arrays,
)

TEXT = st.text(st.characters(codec="utf-8"))


@st.composite
def text_arrays(draw):
    shape = draw(numpy_strategies.array_shapes(min_dims=0, min_side=0))
    size = int(np.prod(shape))
    made = np.empty(size, object)
    made[:] = draw(st.lists(TEXT, min_size=size, max_size=size))
    return made.reshape(shape)


NUMBERS = numpy_strategies.arrays(
    st.sampled_from(["float32", "int64", "uint8", "bool"]),
    numpy_strategies.array_shapes(min_dims=0, min_side=0),
)


@given(st.lists(text_arrays() | NUMBERS, max_size=4))
@settings(max_examples=100, deadline=None)
def test_arrays_come_back_as_they_were(arrays):
    found = unpack_arrays(pack_arrays(arrays), len(arrays))
    for one, other in zip(found, arrays, strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        np.testing.assert_array_equal(one, other)


@given(TEXT, st.integers(0, 3))
@settings(max_examples=50, deadline=None)
def test_a_text_alone_keeps_its_last_nuls(text, nuls):
    (found,) = unpack_arrays(pack_arrays([text + "\0" * nuls]), 1)
    assert found.shape == ()
    assert found.item() == text + "\0" * nuls


def test_no_pickle():
    assert b"pickle" not in pack_arrays(["a text"])
    assert pack_arrays(["a text"]).endswith(b"a text")
