"""Fingerprints tell apart what differs, and know again what is the same."""

import keras
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from keras_cascade.datasets.fingerprint import (
    Fingerprint,
    cast_hashes,
    example_hashes,
)

INTEGERS = ["uint8", "int16", "int32", "uint32", "int64", "uint64"]
NUMBERS = [*INTEGERS, "bool", "float16", "float32", "float64"]


def fingerprint(x):
    made = Fingerprint()
    made.update(x)
    return made


def share(x, seen):
    return fingerprint(x).share_seen_in(fingerprint(seen))


def arrays(dtypes, rows=2, columns=2):
    return st.sampled_from(dtypes).flatmap(
        lambda dtype: npst.arrays(
            dtype,
            (rows, columns),
            elements=npst.from_dtype(
                np.dtype(dtype), allow_nan=False, allow_infinity=False
            ),
        )
    )


def values(row):
    """A row's exact values, as Python compares numbers; -0.0 apart."""
    return [(v, str(v)[:1] == "-") for v in row.tolist()]


@given(x=arrays(NUMBERS))
@settings(max_examples=400, deadline=None)
def test_two_rows_have_one_hash_exactly_where_their_values_are_equal(x):
    one, other = example_hashes(x).tolist()
    assert (one == other) == (values(x[0]) == values(x[1]))


@given(x=arrays(INTEGERS, rows=1), step=st.sampled_from([1, 2, 64, 4096]))
@settings(max_examples=200, deadline=None)
def test_close_integers_are_two_examples(x, step):
    limits = np.iinfo(x.dtype)
    assume(int(x[0, 0]) + step <= limits.max)
    other = x.copy()
    other[0, 0] = int(x[0, 0]) + step
    assert example_hashes(x) != example_hashes(other)


@given(x=arrays(["float64"], rows=1))
@settings(max_examples=200, deadline=None)
def test_neighbours_in_float64_are_two_examples(x):
    other = x.copy()
    other[0, 0] = np.nextafter(x[0, 0], 0.0)
    assume(x[0, 0] != 0)
    assert example_hashes(x) != example_hashes(other)


@given(x=arrays(NUMBERS), dtype=st.sampled_from(NUMBERS))
@settings(max_examples=400, deadline=None)
def test_a_type_that_holds_all_values_changes_no_hash(x, dtype):
    with np.errstate(all="ignore"):
        converted = x.astype(dtype)
    same = [values(a) == values(b) for a, b in zip(x, converted, strict=True)]
    # Python compares True with 1, and integers with floats, exactly.
    found = example_hashes(x) == example_hashes(converted)
    np.testing.assert_array_equal(found, same)


@given(x=arrays(NUMBERS, rows=3, columns=4))
@settings(max_examples=100, deadline=None)
def test_layout_and_byte_order_change_no_hash(x):
    expected = example_hashes(x)
    for same in (
        x.astype(x.dtype.newbyteorder(">")),
        np.asfortranarray(x),
        x.reshape(3, 2, 2),
        np.repeat(x, 2, axis=0)[::2],
    ):
        np.testing.assert_array_equal(example_hashes(same), expected)


def test_large_batches_are_hashed_in_parts(monkeypatch):
    x = np.random.default_rng(0).integers(0, 2**40, (50, 3))
    whole = example_hashes(x)
    monkeypatch.setattr("keras_cascade.datasets.fingerprint.PART_BYTES", 100)
    np.testing.assert_array_equal(example_hashes(x), whole)


def test_bfloat16_is_hashed_by_value():
    x = np.array([[0.5, 3.0], [1.0, -2.0]], "float32")
    half = np.asarray(keras.ops.cast(x, "bfloat16"))
    np.testing.assert_array_equal(example_hashes(half), example_hashes(x))


@pytest.mark.parametrize("first", [2**24, 20_000_000, 10**9, 2**53, 2**60])
@pytest.mark.parametrize("step", [2, 10, 64])
def test_disjoint_ids_do_not_overlap(first, step):
    ids = first + step * np.arange(400)[:, None]
    assert share(ids + 1, ids) == share(ids, ids + 1) == 0
    assert share(ids[::-1], ids) == 1
    assert fingerprint(ids).distinct_share() == 1


def test_close_float64_do_not_overlap():
    days = 739_000.0 + np.arange(400)[:, None] / 720
    assert share(days + 0.0007, days) == share(days, days + 0.0007) == 0
    assert share(days, days) == 1


def test_a_copy_in_float32_is_known_again():
    x = np.random.default_rng(0).normal(size=(400, 3))
    assert (example_hashes(x) != example_hashes(x.astype("float32"))).all()
    for form in (x, x.astype("float32"), {"a": x}):
        for other in (x, x.astype("float32")):
            assert share(form, other) == 1
    half = x[:200].astype("float32")
    assert share(half, x) == 1
    assert share(x, half) == 0.5
    assert share(x[200:].astype("float32"), x[:200]) == 0
    np.testing.assert_array_equal(
        cast_hashes(x), example_hashes(x.astype("float32"))
    )


def test_a_mixed_row_is_known_by_its_ids_and_its_numbers():
    ids = 10**9 + np.arange(200)[:, None]
    x = np.random.default_rng(0).normal(size=(200, 2))
    data = {"id": ids, "x": x}
    assert share({"id": ids, "x": x.astype("float32")}, data) == 1
    assert share({"id": ids + 200, "x": x.astype("float32")}, data) == 0
