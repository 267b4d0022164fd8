"""`RestTeacher`, and answers that fail validation."""

import json

import numpy as np
import pytest

from keras_cascade.runtime import EdgeCascade, RestTeacher, TeacherError
from tests.helpers.socket_servers import http_server

X = {"input": np.arange(12, dtype="float32").reshape(2, 6)}


@pytest.fixture
def server():
    """A server that answers with `reply` and records its requests."""

    def answer(method, path, headers, body):
        got = json.loads(body) if body else None
        asked.append((path, got))
        status, content = running.reply
        return status, content(got) if callable(content) else content

    with http_server(answer) as running:
        running.reply, running.asked = (200, {}), []
        asked = running.asked
        running.url += "/v1/models/teacher"
        yield running


@pytest.fixture
def teacher(server):
    made = RestTeacher(server.url, classes=2, max_rows=3)
    yield made
    made.close()


def sums(body):
    return {"predictions": [[sum(row), 0.0] for row in body["instances"]]}


def test_the_conversation(server, teacher):
    # TensorFlow Serving answers a single output without its name.
    server.reply = (200, {"predictions": [[1.0, 2.0], [3.0, 4.5]]})
    found = teacher.logits(X)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [[1.0, 2.0], [3.0, 4.5]])
    path, body = server.asked[0]
    assert path == "/v1/models/teacher:predict"
    assert body == {"instances": X["input"].tolist()}


def test_named_outputs_and_inputs(server, teacher):
    server.reply = (
        200,
        {"predictions": [{"logits": [1, 2], "other": 0}, {"logits": [3, 4]}]},
    )
    found = teacher.logits(
        {"a": np.array([[1.0], [2.0]]), "b": np.array([[3], [4]])}
    )
    np.testing.assert_array_equal(found, [[1, 2], [3, 4]])
    assert server.asked[0][1] == {
        "instances": [{"a": [1.0], "b": [3]}, {"a": [2.0], "b": [4]}]
    }


def test_many_rows_are_sent_in_several_requests(server, teacher):
    server.reply = (200, sums)
    x = np.arange(8.0, dtype="float32").reshape(8, 1)
    found = teacher.logits({"input": x})
    np.testing.assert_array_equal(found[:, 0], np.arange(8.0))
    assert [len(b["instances"]) for _, b in server.asked] == [3, 3, 2]


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (500, {"error": "boom"}, "status 500.*boom"),
        (404, b"no", "status 404"),
        (200, b"<html>", "did not answer in JSON"),
        (200, b"{", "did not answer in JSON"),
        (200, [1], "no .logits."),
        (200, {"outputs": 1}, "no .logits.|numbers|shape"),
        (200, {"predictions": [[1.0, 2.0]]}, "shape"),
        (200, {"predictions": [[1.0], [2.0]]}, "shape"),
        (200, {"predictions": [[1.0, "x"], [2.0, 1.0]]}, "no .logits.|numbers"),
        (200, {"predictions": [{"scores": [1, 2]}] * 2}, "no .logits.|numbers"),
        (200, {"predictions": [[1.0, 2.0], [3.0]]}, "no .logits.|numbers"),
        (200, {"predictions": [[1.0, None], [3.0, 1.0]]}, "NaN|numbers"),
        (200, b'{"predictions": [[1.0, NaN], [1.0, 2.0]]}', "NaN"),
        (200, b'{"predictions": [[1.0, 1e999], [1.0, 2.0]]}', "NaN"),
        (
            200,
            {"predictions": {"logits": [[1, 2], [3, 4]]}},
            "no .logits.|numbers|shape",
        ),
        (200, {"predictions": [[10**400, 1], [1, 2]]}, "numbers|NaN"),
        (200, {"predictions": []}, "no .logits."),
        (200, {"predictions": "xy"}, "no .logits.|numbers|shape"),
    ],
)
def test_answers_that_fail_validation(server, teacher, status, body, message):
    server.reply = (status, body)
    with pytest.raises(TeacherError, match=message):
        teacher.logits(X)


def test_a_server_that_is_not_there(server, teacher):
    teacher.check()
    gone = RestTeacher("http://127.0.0.1:9/v1/models/teacher", 2, timeout=2)
    for call in (gone.check, lambda: gone.logits(X)):
        with pytest.raises(
            TeacherError, match=r"does not answer at.*Is it run"
        ):
            call()
    gone.close()


def test_an_edge_cascade_marks_unanswered_rows(server, bundle_path, blobs):
    server.reply = (503, {"error": "overloaded"})
    x, _ = blobs(40)
    with EdgeCascade.load(bundle_path, teacher=server.url, retries=0) as edge:
        found = edge.predict(x)
    assert set(found.source) == {"edge", "edge_fallback"}
    assert "status 503" in found.teacher_error


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1/v1/models/teacher", "http://", "http://a b/",
        "http://h:port/", "http://user:secret@h/", "http://h/?a=b", "http://h\n",
    ],
)  # fmt: skip
def test_invalid_urls(url):
    with pytest.raises(ValueError, match="Expected a URL such as"):
        RestTeacher(url, 2)


def test_a_long_request_is_cut(server):
    """`{"instances":[[1.0],[1.0]]}` is 27 bytes; each row takes 6."""
    server.reply = (200, sums)
    ones = {"input": np.ones((5, 1), "float32")}
    small = RestTeacher(server.url, 2, max_request_bytes=27)
    np.testing.assert_array_equal(small.logits(ones)[:, 0], np.ones(5))
    assert [len(b["instances"]) for _, b in server.asked] == [2, 1, 2]
    small.close()
    # One row is {"instances":[[1.0]]}, 21 bytes.
    too_small = RestTeacher(server.url, 2, max_request_bytes=20)
    with pytest.raises(TeacherError, match="takes 21 bytes") as caught:
        too_small.logits(ones)
    assert caught.value.about_input
    too_small.close()


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0}, {"max_rows": 0}, {"max_request_bytes": -1},
        {"max_response_bytes": 0}, {"token": "two\nlines"}, {"token": "ü"},
    ],
)  # fmt: skip
def test_bad_options(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        RestTeacher("http://127.0.0.1:9/v1/models/teacher", 2, **options)


def test_a_token_in_the_open_warns():
    with pytest.warns(UserWarning, match="without encryption"):
        RestTeacher("http://teacher.invalid/v1/models/t", 2, token="secret")
