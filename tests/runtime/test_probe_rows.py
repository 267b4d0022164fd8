"""Probe rows: the same on every machine, in every version."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_cascade.runtime.inputs import prepare_inputs
from keras_cascade.runtime.teachers.probe_rows import (
    SENTENCES,
    probe_inputs,
    probe_shapes,
)


def uniform(text, count):
    raw = hashlib.shake_256(text.encode()).digest(4 * count)
    words = [
        int.from_bytes(raw[4 * i : 4 * i + 4], "little") for i in range(count)
    ]
    return [(word // 256) / 2**24 for word in words]


def by_the_document(seed, name, row, shape, low, high):
    """Value by value, as `docs/identity.md` says it; without NumPy."""
    grain = 2 ** (row % 4)
    coarse = [math.ceil(size / grain) for size in shape]
    values = uniform(f"{seed}/{name}/{row}", math.prod(coarse))
    m, c = 0.5, 1.0
    if row:
        m, u = uniform(f"{seed}/{name}/{row}/tone", 2)
        c = 0.25 + 0.75 * u
    found = []
    for index in np.ndindex(*shape):
        position = 0
        for size, one in zip(coarse, index, strict=True):
            position = position * size + one // grain
        v = values[position]
        v = (m * (1 - c) + 0.5 * c) + c * (v - 0.5)
        found.append(min(max(low + (high - low) * v, low), high))
    return np.reshape(found, shape)


@settings(max_examples=50, deadline=None)
@given(
    st.text(min_size=1, max_size=9),
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
    st.floats(-1e6, 1e6),
    st.floats(0, 1e6),
    st.sampled_from(["float32", "float64", "int32", "uint8"]),
)
def test_rows_are_those_of_the_document(seed, shape, low, width, dtype):
    high = low + width
    if dtype in ("int32", "uint8"):
        low, high = (float(round(min(abs(one), 255))) for one in (low, high))
        low, high = sorted((low, high))
    specs = [
        {"name": "x", "shape": [None, *shape], "dtype": dtype,
         "range": [low, high]}
    ]  # fmt: skip
    found = probe_inputs(specs, seed, 6, {"x": shape})["x"]
    expected = np.stack(
        [by_the_document(seed, "x", row, shape, low, high) for row in range(6)]
    )
    if dtype in ("int32", "uint8"):
        expected = np.rint(expected)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected.astype(dtype))
    assert found.min() >= np.dtype(dtype).type(low)
    assert found.max() <= np.dtype(dtype).type(high)


def test_texts_are_sentences_that_models_take():
    specs = [
        {"name": "a", "shape": [None], "dtype": "string", "range": None},
        {"name": "b", "shape": [None, 1], "dtype": "string", "range": None},
    ]
    inputs = probe_inputs(specs, "s", 8, probe_shapes(specs))
    prepared = prepare_inputs(inputs, specs)
    assert prepared["b"].shape == (8, 1)
    for texts in prepared.values():
        assert set(texts.ravel()) <= set(SENTENCES)
        assert len(set(texts.ravel())) == 8
    offset = int.from_bytes(hashlib.shake_256(b"s/a").digest(4), "little")
    assert prepared["a"][0] == SENTENCES[offset % 16]


def test_released_sentences_stay():
    """A bundle names them by their number only."""
    text = "\n".join(SENTENCES[:16])
    assert (
        hashlib.sha256(text.encode()).hexdigest().startswith("90c58f0043ea3f3f")
    )


@pytest.mark.parametrize(
    ("shape", "example", "expected"),
    [
        ([None, 6], None, [6]),
        ([None, None, 3], np.zeros((5, 7, 3)), [7, 3]),
        ([None, None], None, [1]),
        ([None], None, []),
    ],
)
def test_free_sizes_are_those_of_the_example(shape, example, expected):
    specs = [{"name": "x", "shape": shape, "dtype": "float32", "range": None}]
    examples = None if example is None else {"x": example}
    assert probe_shapes(specs, examples) == {"x": expected}
