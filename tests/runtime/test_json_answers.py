"""`read_json`, and answers whose JSON is made to cost memory."""

import json
import math
import re
import tracemalloc
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keras_cascade.runtime import RestTeacher, TeacherError, V2HttpTeacher
from keras_cascade.runtime.teachers import json_answers
from keras_cascade.runtime.teachers.json_answers import SMALL, read_json
from keras_cascade.runtime.teachers.remote_teacher import validate_logits
from tests.helpers.socket_servers import http_server

SIZE = 1_000_000


def filled(before, part, after):
    return before + part * (SIZE // len(part)) + after


HOSTILE = {
    "lists": filled(b'{"predictions":[', b"[],", b"[]]}"),
    "nested lists": b'{"predictions":' + b"[" * SIZE,
    "nested and closed": b"[" * (SIZE // 2) + b"]" * (SIZE // 2),
    "objects": filled(b'{"predictions":[', b"{},", b"{}]}"),
    "nested objects": b'{"a":' * (SIZE // 5),
    "strings": filled(b'{"predictions":[', b'"ab",', b'""]}'),
    "one long string": b'{"predictions":["' + b"a" * SIZE + b'"]}',
    "one long string among short": b'{"predictions":["'
    + b"a" * (SIZE // 2)
    + b'"'
    + b',""' * (SIZE // 6)
    + b"]}",
    "one character of four bytes": '{"predictions":["\U0001f600'.encode()
    + b"a" * SIZE
    + b'"]}',
    "lists of one number": filled(b'{"predictions":[', b"[1],", b"[1]]}"),
    "short lists and strings": filled(b"[", b'[1],"a",', b"1]"),
    "digits": b'{"predictions":[[' + b"1" * SIZE + b"]]}",
    "digits alone": b"1" * SIZE,
    "numbers of one digit": filled(b'{"predictions":[[', b"1,", b"1]]}"),
    "numbers of three digits": filled(b'{"predictions":[[', b"300,", b"1]]}"),
    "flat numbers": filled(b'{"predictions":[', b"1,", b"1]}"),
    "commas": filled(b'{"predictions":[[', b",", b"]]}"),
    "names": b'{"predictions":[[' + b'{"logits":1},' * (SIZE // 13) + b"1]]}",
    "literals": filled(b'{"predictions":[[', b"null,", b"null]]}"),
    "white space": filled(b'{"predictions":', b" ", b"[[1,2]]}"),
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_memory_for_a_hostile_answer(body):
    """At most 8 times its size, from its bytes to validated logits."""
    tracemalloc.start()
    try:
        answer = read_json(body, 256)
        if isinstance(answer, dict):
            answer = answer.get("predictions")
        validate_logits(answer, 1, 2)
    except (TeacherError, ValueError):
        pass
    else:
        assert body is HOSTILE["white space"]
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak <= 8 * len(body)


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("kind", [RestTeacher, V2HttpTeacher])
def test_a_hostile_answer_is_a_teacher_error(body, kind):
    """With a limit that lets it through, and with the one that follows."""
    version = 1 if kind is RestTeacher else 2
    options = {} if version == 1 else {"binary": False}
    with http_server(lambda *_: (200, body)) as server:
        for limit in (None, 2 * SIZE):
            teacher = kind(
                f"{server.url}/v{version}/models/teacher", 2,
                max_response_bytes=limit, **options,
            )  # fmt: skip
            x = {"input": np.zeros((3, 2), "float32")}
            with pytest.raises(TeacherError) as caught:
                teacher.logits(x)
            assert caught.value.invalid_answer
            too_long = "more than" in str(caught.value) and (
                "max_response_bytes" in str(caught.value)
            )
            assert too_long is (limit is None)
            teacher.close()


def test_the_limit_follows_from_rows_and_classes():
    """64 KiB, and for each row 1 KiB and 64 bytes per class."""
    limit = 64 * 1024 + 3 * (1024 + 64 * 2)
    for size, fits in ((limit, True), (limit + 1, False)):
        body = b'{"predictions": [[1, 2], [1, 2], [1, 2]], "other": [%s0]}'
        body %= b"0," * ((size - len(body) + 2) // 2)
        body = body.ljust(size)
        assert len(body) == size
        with http_server(lambda *_, body=body: (200, body)) as server:
            teacher = RestTeacher(f"{server.url}/v1/models/teacher", 2)
            x = {"input": np.zeros((3, 2), "float32")}
            if fits:
                assert teacher.logits(x).shape == (3, 2)
            else:
                with pytest.raises(TeacherError, match=f"more than {limit} b"):
                    teacher.logits(x)
            teacher.close()


def test_the_longest_float_fits_into_the_limit():
    """256 rows of 1,000 classes, with the longest form of a float64."""
    longest = len("-1.2345678901234567e-300, ")
    assert 256 * 1000 * longest + 256 * 4 < 64 * 1024 + 256 * (1024 + 64 * 1000)


FLOATS = st.floats(-1e6, 1e6, width=32)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 6),
    st.integers(1, 9),
    st.integers(0, 3),
    st.booleans(),
    st.data(),
)
def test_long_answers_are_read_as_python_reads_them(
    rows, classes, indent, named, data
):
    """Each is made long by its white space or by a further, long array."""
    values = data.draw(
        st.lists(
            st.lists(FLOATS, min_size=classes, max_size=classes),
            min_size=rows,
            max_size=rows,
        )
    )
    predictions = values
    if named:
        predictions = [{"logits": row, "n": 1} for row in values]
    other = np.arange(SMALL // 4, dtype=float).tolist()
    body = json.dumps(
        {"other": other, "predictions": predictions, "shape": [rows, classes]},
        indent=indent or None,
    ).encode()
    assert len(body) > SMALL
    found = read_json(body, rows)
    expected = json.loads(body)
    np.testing.assert_array_equal(found["other"], other)
    assert found["shape"] == expected["shape"]
    got = found["predictions"]
    if named:
        assert [row["n"] for row in got] == [1] * rows
        got = [row["logits"] for row in got]
    np.testing.assert_array_equal(
        np.asarray(got, "float32"), np.asarray(values, "float32")
    )


@pytest.mark.parametrize(
    "text",
    [
        "[[1,2],[3]]", "[[1,2],3]", "[1,[2]]", "[[1,2][3,4]]", "[[1,,2]]",
        "[[1,2,]]", "[[1,2]3,[4,5]]", "[[1 2]]", "[[1.2.3,1]]", "[[--1,1]]",
        "[[]]", "[[1,2],]", "[[[1]]]",
    ],
)  # fmt: skip
def test_long_arrays_that_are_not_of_rows(text):
    # Made long inside of its first brackets, where white space says nothing.
    body = text.replace("[", "[" + " " * (SMALL + 1), 1).encode()
    with pytest.raises(ValueError):
        read_json(b'{"predictions":' + body + b"}", 256)


def test_a_text_that_looks_like_an_array_is_one():
    array = "[" + "1," * SMALL + "1]"
    with pytest.raises(ValueError):
        read_json(json.dumps({"text": array}).encode(), 256)
    assert read_json(b'{"text": %s}' % array.encode(), 256)["text"].shape == (
        SMALL + 1,
    )


def test_the_key_of_cut_out_arrays_is_no_way_in():
    forged = {"predictions": {"keras_cascade.array": 7}}
    assert read_json(json.dumps(forged).encode(), 1) == forged
    body = json.dumps({**forged, "x": [0.5] * SMALL}).encode()
    with pytest.raises(ValueError, match="IndexError"):
        read_json(body, 1)


def test_overflow_is_infinity_and_refused():
    body = b'{"predictions": [[%s1e400]]}' % (b"1," * SMALL)
    values = read_json(body, 1)["predictions"]
    assert math.isinf(values[0, -1])
    with pytest.raises(TeacherError, match="NaN or infinity"):
        validate_logits(values, 1, SMALL + 1)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"1", b"a", b", [", b'"']),
            st.sampled_from([1, 2, 30, 62, 63, 64, 65, 127, 128, 129, 300]),
        ),
        max_size=12,
    ),
    st.sampled_from([64, 65, 100, 1000]),
)
def test_pieces_find_the_texts_that_one_search_finds(parts, chunk):
    """However the texts lie in the pieces."""
    content = b"".join(part * count for part, count in parts)
    expected = re.finditer(rb"[-+.eE0-9 \t\r\n,\[\]]{64,}", content)
    with mock.patch.object(json_answers, "CHUNK", chunk):
        found = list(json_answers._runs(content))
    assert found == [one.span() for one in expected]


@settings(max_examples=30, deadline=None)
@given(
    shape=hnp.array_shapes(min_dims=3, max_dims=4, min_side=1, max_side=5),
    seed=st.integers(0, 2**31),
    indent=st.sampled_from([None, 1]),
)
def test_long_answers_of_several_axes(shape, seed, indent):
    rows = 1 + 8000 // int(np.prod(shape))  # beyond what is parsed whole
    values = np.random.default_rng(seed).normal(size=(rows, *shape[1:]))
    text = json.dumps({"outputs": values.tolist()}, indent=indent)
    assert len(text) > SMALL
    lists = 2 * int(np.prod(values.shape[:-1])) + rows
    found = read_json(text.encode(), lists, values.ndim)["outputs"]
    np.testing.assert_array_equal(
        np.asarray(found, "float32"), values.astype("float32")
    )
    with pytest.raises(ValueError, match="axes"):
        read_json(text.encode(), lists, values.ndim - 1)
