"""`V2HttpTeacher`, with JSON and with binary tensors."""

import json

import numpy as np
import pytest

from keras_cascade.runtime import TeacherError, V2HttpTeacher
from tests.helpers.socket_servers import http_server

X = {"input": np.arange(12, dtype="float32").reshape(2, 6)}
LOGITS = np.array([[1.5, -2.0], [3.0, 4.25]], "<f4")
LENGTH = "Inference-Header-Content-Length"


def output(**changes):
    return {
        "name": "logits",
        "shape": [2, 2],
        "datatype": "FP32",
        "data": LOGITS.ravel().tolist(),
        **changes,
    }


def binary(raw, size=None, header=None, **changes):
    """An answer with its tensor in bytes behind the header."""
    one = output(
        parameters={"binary_data_size": len(raw) if size is None else size},
        **changes,
    )
    del one["data"]
    head = json.dumps({"outputs": [one]}).encode()
    length = str(len(head)) if header is None else header
    return 200, head + raw, {LENGTH: length}


@pytest.fixture
def server():
    """A server that answers with `reply` and `extensions`."""

    def answer(method, path, headers, body):
        if path == "/v2":
            return 200, {"name": "s", "extensions": running.extensions}
        running.headers = headers
        return running.reply

    with http_server(answer) as running:
        running.extensions = []
        running.reply = (200, {"outputs": [output()]})
        running.url += "/v2/models/teacher"
        yield running


@pytest.fixture
def ask(server):
    def call(x=X, **options):
        teacher = V2HttpTeacher(server.url, 2, **options)
        try:
            return teacher.logits(x)
        finally:
            teacher.close()

    return call


def test_the_conversation_in_json(server, ask):
    found = ask()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, LOGITS)
    path, body = server.requests[-1]
    assert path == "/v2/models/teacher/infer"
    sent = json.loads(body)
    assert sent["inputs"] == [
        {
            "name": "input",
            "shape": [2, 6],
            "datatype": "FP32",
            "data": X["input"].ravel().tolist(),
        }
    ]
    assert sent["outputs"][0]["name"] == "logits"
    assert sent["id"]


def test_the_conversation_in_bytes(server, ask):
    server.extensions = ["classification", "binary_tensor_data"]
    server.reply = binary(LOGITS.tobytes())
    x = {
        "a": np.array([[1, 2], [3, 4]], ">i8"),
        "b": np.array([[0.5], [1.5]], "float16"),
    }
    np.testing.assert_array_equal(ask(x), LOGITS)
    body = server.requests[-1][1]
    end = int(server.headers[LENGTH])
    sent = json.loads(body[:end])
    assert [one["datatype"] for one in sent["inputs"]] == ["INT64", "FP16"]
    assert sent["outputs"][0]["parameters"] == {"binary_data": True}
    # Little-endian, one behind the other, of the sizes that the header says.
    sizes = [one["parameters"]["binary_data_size"] for one in sent["inputs"]]
    assert sizes == [32, 4]
    assert body[end:] == x["a"].astype("<i8").tobytes() + x["b"].tobytes()


def test_extensions_are_requested_once(server):
    teacher = V2HttpTeacher(server.url, 2)
    for _ in range(3):
        teacher.logits(X)
    assert [path for path, _ in server.requests].count("/v2") == 1
    teacher.close()


@pytest.mark.parametrize("wanted", [True, False])
def test_the_form_may_be_given(server, ask, wanted):
    np.testing.assert_array_equal(ask(binary=wanted), LOGITS)
    assert [path for path, _ in server.requests] == ["/v2/models/teacher/infer"]
    assert (LENGTH in server.headers) is wanted


@pytest.mark.parametrize(
    "reply",
    [
        (200, {"outputs": [output(data=LOGITS.tolist())]}),
        (200, {"outputs": [{"name": "other", "shape": [1], "data": [0]},
                           output(datatype="FP64")]}),
        binary(LOGITS.astype("<f8").tobytes(), datatype="FP64"),
        binary(LOGITS.astype("<i4").tobytes(), datatype="INT32"),
    ],
)  # fmt: skip
def test_forms_that_an_answer_may_have(server, ask, reply):
    server.reply = reply
    expected = LOGITS.astype("int32") if "INT32" in str(reply) else LOGITS
    np.testing.assert_array_equal(ask(), expected)


def test_the_second_tensor_behind_the_header(server, ask):
    first = {"name": "other", "shape": [1], "datatype": "INT8",
             "parameters": {"binary_data_size": 1}}  # fmt: skip
    second = output(parameters={"binary_data_size": 16})
    head = json.dumps({"outputs": [first, second]}).encode()
    server.reply = (
        200,
        head + b"\7" + LOGITS.tobytes(),
        {LENGTH: str(len(head))},
    )
    np.testing.assert_array_equal(ask(), LOGITS)


@pytest.mark.parametrize(
    "reply",
    [
        (200, b"{"),
        (200, []),
        (200, {}),
        (200, {"outputs": 3}),
        (200, {"outputs": []}),
        (200, {"outputs": ["logits"]}),
        (200, {"outputs": [output(name="other")]}),
        (200, {"outputs": [output(data=[1, 2, 3])]}),
        (200, {"outputs": [output(data=None)]}),
        (200, {"outputs": [output(data=["a"] * 4)]}),
        (200, {"outputs": [output(data=[1, 2, 3, None])]}),
        (200, {"outputs": [output(data=[1, 2, 3, 10**400])]}),
        (200, {"outputs": [output(shape=[4])]}),
        (200, {"outputs": [output(shape=[2, 2, 10**9])]}),
        (200, {"outputs": [output(shape="2x2")]}),
        (200, {"outputs": [output(shape=[-1, 2])]}),
        (200, {"outputs": [output(parameters=[1])]}),
        (200, {"outputs": [output(parameters={"binary_data_size": "x"})]}),
        (200, {"outputs": [output(parameters={"binary_data_size": -3})]}),
        (200, b'{"outputs": [{"name": "logits", "shape": [2, 2], "data":'
              b" [1, 2, 3, NaN]}]}"),
        binary(LOGITS.tobytes()[:-1]),
        binary(LOGITS.tobytes(), size=17),
        binary(LOGITS.tobytes(), size=15),
        binary(LOGITS.tobytes(), size=10**30),
        binary(LOGITS.tobytes(), header="9999"),
        binary(LOGITS.tobytes(), header="-1"),
        binary(LOGITS.tobytes(), header="all"),
        binary(LOGITS.tobytes(), header="3"),
        binary(LOGITS.tobytes(), datatype="BYTES"),
        binary(LOGITS.tobytes(), datatype="FP64"),
        binary(LOGITS.tobytes(), datatype=None),
        binary(np.full(4, np.nan, "<f4").tobytes()),
        binary(LOGITS.tobytes(), shape=[2, 3]),
    ],
)  # fmt: skip
def test_answers_that_fail_validation(server, ask, reply):
    server.reply = reply
    with pytest.raises(TeacherError) as caught:
        ask(binary=True)
    assert caught.value.invalid_answer


@pytest.mark.parametrize("extensions", [None, 3])
def test_a_server_without_a_list_of_extensions(server, ask, extensions):
    server.extensions = extensions
    with pytest.raises(TeacherError, match="binary=False"):
        ask()


def test_readiness(server):
    teacher = V2HttpTeacher(server.url, 2)
    teacher.check()
    assert server.requests[-1][0] == "/v2/models/teacher/ready"
    server.reply = (503, b"loading")
    with pytest.raises(TeacherError, match="503"):
        teacher.check()
    teacher.close()
