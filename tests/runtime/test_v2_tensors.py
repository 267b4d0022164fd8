"""Binary tensors of Open Inference Protocol v2."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from keras_cascade.runtime.teachers.v2_tensors import (
    NUMPY_TYPES,
    datatype_of,
    from_bytes,
    split_texts,
    to_bytes,
)

TEXTS = st.lists(st.text(st.characters(codec="utf-8")))


def objects(texts):
    made = np.empty(len(texts), object)
    made[:] = texts
    return made


@given(TEXTS)
@settings(max_examples=100, deadline=None)
def test_the_same_bytes_as_of_tritons_client(texts):
    raw = to_bytes(objects(texts))
    if texts:
        assert raw == serialize_byte_tensor(objects(texts)).item()
    assert split_texts(raw, len(texts)) == list(deserialize_bytes_tensor(raw))
    assert [one.decode() for one in split_texts(raw, len(texts))] == texts


def test_row_by_row():
    made = objects(["a", "bc", "d", "é"]).reshape(2, 2).T  # a d / bc é
    assert datatype_of(made) == "BYTES"
    assert to_bytes(made) == (b"\1\0\0\0a\1\0\0\0d\2\0\0\0bc\2\0\0\0\xc3\xa9")


@given(TEXTS, st.integers(0, 9), st.binary(max_size=9), st.integers(0, 200))
@settings(max_examples=200, deadline=None)
def test_other_bytes_are_read_whole_or_refused(texts, count, more, cut):
    raw = (to_bytes(objects(texts)) + more)[:cut]
    try:
        found = split_texts(memoryview(raw), count)
    except ValueError:
        return
    assert len(found) == count
    lengths = [len(one).to_bytes(4, "little") for one in found]
    parts = zip(lengths, found, strict=True)
    assert b"".join(length + one for length, one in parts) == raw


@pytest.mark.parametrize(
    ("raw", "count", "message"),
    [
        (b"", 1, "0 bytes, too few for 1 lengths"),
        (b"\1\0\0\0a", 2**62, "too few"),
        (b"\5\0\0\0abcd\0", 2, "end in the length of text 1"),
        (b"\2\0\0\0a", 1, "1 of the 2 bytes of text 0"),
        (b"\xff\xff\xff\xffa", 1, "1 of the 4294967295 bytes of text 0"),
        (b"\1\0\0\0ab", 1, "1 bytes after the last text"),
        (b"a", 0, "1 bytes after the last text"),
    ],
)
def test_lengths_that_lie(raw, count, message):
    with pytest.raises(ValueError, match=message):
        split_texts(raw, count)


def test_an_answer_is_never_text():
    assert "BYTES" not in NUMPY_TYPES
    with pytest.raises(ValueError, match="datatype 'BYTES'"):
        from_bytes(b"\1\0\0\0a", "BYTES", [1])
