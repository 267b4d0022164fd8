"""Answers of the k largest logits, over every protocol, and without one."""

import contextlib
import json

import httpx
import numpy as np
import pytest
import scipy.special

from keras_cascade.bundle import Bundle
from keras_cascade.errors import TeacherError
from keras_cascade.runtime import EdgeCascade, V2HttpTeacher
from keras_cascade.runtime.teachers.remote_teacher import validate_top_k
from keras_cascade.runtime.teachers.teacher_at import open_teacher
from keras_cascade.serving import rest_v1, rest_v2
from keras_cascade.utils.numpy_top_k import top_k_arrays
from tests.helpers.socket_servers import http_server

TOP_K = 2
HEADER = "x-cascade-top-k"


def urls(server):
    v2 = server.url.replace("/v1/", "/v2/")
    return {
        "v1": (server.url, {}),
        "v2": (v2, {"binary": False}),
        "v2_binary": (v2, {"binary": True}),
        "grpc": (server.grpc_url, {}),
        "detected": (server.url.partition("/v1/")[0], {}),
    }


def with_even_tail(logits, top_k):
    """Softmax whose smaller shares are replaced by their mean, in float64."""
    shares = scipy.special.softmax(logits.astype("float64"), axis=1)
    if top_k >= shares.shape[1]:
        return shares
    order = np.argsort(-shares, axis=1)
    rest = np.take_along_axis(shares, order[:, top_k:], axis=1)
    even = np.repeat(rest.mean(1, keepdims=True), rest.shape[1], axis=1)
    np.put_along_axis(shares, order[:, top_k:], even, axis=1)
    return shares


@pytest.mark.parametrize("form", ["v1", "v2", "v2_binary", "grpc", "detected"])
def test_the_known_shares_are_the_teachers(
    server, bundle_path, expected, blobs, form
):
    url, options = urls(server)[form]
    bundle = Bundle.load(bundle_path)
    x = {"input": blobs(300)[0]}  # two requests
    logits = expected(x)
    for top_k in (TOP_K, len(bundle.classes)):
        teacher = open_teacher(url, bundle, 30.0, top_k=top_k, **options)
        with contextlib.closing(teacher):
            found = teacher.logits(x)
        assert found.shape == logits.shape
        assert np.array_equal(found.argmax(1), logits.argmax(1))
        np.testing.assert_allclose(
            scipy.special.softmax(found.astype("float64"), axis=1),
            with_even_tail(logits, top_k),
            atol=1e-5,
        )


def test_a_device_asks_for_them(server, bundle_path, expected, blobs):
    x = blobs(100)[0]
    with EdgeCascade.load(
        bundle_path, server.url, on_failure="raise", teacher_top_k=TOP_K
    ) as edge:
        prediction = edge.predict(x)
    asked = np.array(prediction.source) == "cloud"
    assert asked.any()
    logits = expected({"input": x[asked]})
    np.testing.assert_allclose(
        np.asarray(prediction.probabilities)[asked],
        with_even_tail(logits, TOP_K),
        atol=1e-5,
    )


def test_the_first_protocol_answers_in_columns(server, expected, blobs):
    x = blobs(3)[0]
    top = top_k_arrays(expected({"input": x}), TOP_K)
    for body, name in (
        ({"instances": x.tolist()}, "predictions"),
        ({"inputs": x.tolist()}, "outputs"),
    ):
        answer = httpx.post(
            f"{server.url}:predict",
            json=body,
            headers={HEADER: str(TOP_K)},
        ).json()[name]
        assert list(answer) == ["logits", "classes", "rest"]
        assert answer["classes"] == top["classes"].tolist()
        np.testing.assert_allclose(answer["logits"], top["logits"], atol=1e-5)
        np.testing.assert_allclose(answer["rest"], top["rest"], atol=1e-5)


@pytest.mark.parametrize("value", ["0", "-1", "many", "1" * 10])
def test_bad_numbers(server, blobs, value):
    answer = httpx.post(
        f"{server.url}:predict",
        json={"instances": blobs(1)[0].tolist()},
        headers={HEADER: value},
    )
    assert answer.status_code == 400
    assert HEADER in answer.json()["error"]


def test_a_server_that_does_not_know_how_answers_with_all():
    logits = np.array([[1.5, -2.0, 0.5], [3.0, 4.25, -1.0]], "float32")
    asked = []

    def answer(method, path, headers, body):
        if path == "/v2":
            return 200, {"name": "s", "extensions": []}
        asked.append(headers.get(HEADER))
        tensor = {"name": "logits", "shape": [2, 3], "datatype": "FP32"}
        return 200, {"outputs": [{**tensor, "data": logits.ravel().tolist()}]}

    with http_server(answer) as running:
        url = f"{running.url}/v2/models/teacher"
        with contextlib.closing(V2HttpTeacher(url, 3, top_k=1)) as teacher:
            found = teacher.logits({"input": np.zeros((2, 6), "float32")})
    np.testing.assert_array_equal(found, logits)
    assert asked == ["1"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": [[0, 0]]}, "2 different classes from 0 to 4"),
        ({"classes": [[0, 5]]}, "2 different classes from 0 to 4"),
        ({"classes": [[0, 1.5]]}, "2 different classes from 0 to 4"),
        ({"classes": [[0]]}, "shape"),
        ({"logits": [[1.0, float("nan")]]}, "NaN"),
        ({"rest": ["x"]}, "numbers"),
        ({"rest": [0.0, 1.0]}, "shape"),
        ({"rest": None}, "'rest'"),
    ],
)
def test_invalid_answers(changes, message):
    answer = {"logits": [[2.0, 1.0]], "classes": [[3, 1]], "rest": [0.0]}
    dense = validate_top_k(answer, 1, 5, 2)
    level = -np.log(3.0)
    np.testing.assert_allclose(
        dense, [[level, 1.0, level, 2.0, level]], rtol=1e-6
    )
    answer = {**answer, **changes}
    answer = {name: one for name, one in answer.items() if one is not None}
    with pytest.raises(TeacherError, match=message) as caught:
        validate_top_k(answer, 1, 5, 2)
    assert caught.value.invalid_answer


def test_bytes_of_21843_classes():
    """32 logits, 32 classes and the rest: 260 bytes a row in binary."""
    rows, classes = 16, 21_843
    logits = np.random.default_rng(0).normal(size=(rows, classes))
    logits = logits.astype("float32")
    top = top_k_arrays(logits, 32)

    class Teacher:
        output, version, identity = "logits", "1", "0" * 64

    sizes = {}
    for name, answer in (("all", logits), ("top", top)):
        request = rest_v2.InferRequest({}, "1", True)
        body, head = rest_v2.write_response(answer, request, "teacher", Teacher)
        sizes[name] = len(body) - head
        text = rest_v1.write_response(answer, as_instances=True)
        assert json.loads(text)["predictions"]
    assert sizes == {"all": rows * classes * 4, "top": rows * (32 * 8 + 4)}
