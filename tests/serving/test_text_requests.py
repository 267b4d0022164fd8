"""HTTP requests with texts in this process: valid and invalid ones."""

import base64
import json
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_cascade.serving.loaded_teacher import LoadedTeacher
from keras_cascade.serving.server_metrics import ServerMetrics
from keras_cascade.serving.settings import Limits
from keras_cascade.serving.teacher_service import TeacherService
from tests.helpers.asgi_client import AsgiClient
from tests.helpers.text_teacher import text_bundle, text_logits

PREDICT = "/v1/models/teacher:predict"
INFER = "/v2/models/teacher/infer"
LENGTH = "inference-header-content-length"
TEXTS = ["plain", "é\0", "👩‍👩‍👧", "漢字"]
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
QUIET = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture],
}
PAIR = [
    {"name": "premise", "shape": [None], "dtype": "string", "range": None},
    {"name": "text", "shape": [None, 2], "dtype": "string", "range": None},
    {"name": "weight", "shape": [None], "dtype": "float32", "range": None},
]


def pair_logits(inputs):
    joined = [
        premise + "|".join(row)
        for premise, row in zip(inputs["premise"], inputs["text"], strict=True)
    ]
    return text_logits({"text": joined}) * inputs["weight"][:, None]


@pytest.fixture
def make_client():
    """A function that makes an `AsgiClient` for texts, with limits."""

    def make(specs=None, run=text_logits, **limits):
        def service():
            settings, metrics = Limits(**limits), ServerMetrics()
            bundle = text_bundle() if specs is None else text_bundle(specs)
            teacher = LoadedTeacher(bundle, run, settings, metrics)
            return TeacherService(teacher, settings, None, metrics)

        return AsgiClient(service)

    return make


def as_bytes(texts):
    return b"".join(
        struct.pack("<I", len(raw)) + raw
        for raw in (
            text if isinstance(text, bytes) else text.encode() for text in texts
        )
    )


def v2(data, shape=None, **more):
    shape = [len(data)] if shape is None else shape
    tensor = {"name": "text", "datatype": "BYTES", "shape": shape, **more}
    return {"inputs": [{**tensor, "data": data}]}


def binary(raw, rows, datatype="BYTES"):
    """Headers and body of a binary request."""
    tensor = {
        "name": "text",
        "datatype": datatype,
        "shape": [rows],
        "parameters": {"binary_data_size": len(raw)},
    }
    head = json.dumps({"inputs": [tensor]}).encode()
    return {"headers": [(LENGTH, str(len(head)))], "body": head + raw}


def logits_of(answer):
    assert answer.status == 200, answer.body
    response = answer.json()
    if "outputs" in response and isinstance(response["outputs"][0], dict):
        (output,) = response["outputs"]
        return np.reshape(output["data"], output["shape"])
    return response.get("predictions", response.get("outputs"))


def b64(text):
    return {"b64": base64.b64encode(text.encode()).decode()}


@pytest.mark.parametrize(
    "body",
    [
        {"instances": TEXTS},
        {"instances": [{"text": text} for text in TEXTS]},
        {"inputs": TEXTS},
        {"inputs": {"text": TEXTS}},
        {"instances": [*map(b64, TEXTS)]},
        {"instances": [TEXTS[0], *map(b64, TEXTS[1:])]},
        {"instances": [{"text": b64(text)} for text in TEXTS]},
        {"inputs": {"text": [*map(b64, TEXTS)]}},
        {"instances": [{"b64": b64(t)["b64"].rstrip("=")} for t in TEXTS]},
    ],
)
def test_the_form_of_tensorflow_serving(make_client, body):
    logits = logits_of(make_client()("POST", PREDICT, body))
    np.testing.assert_array_equal(logits, text_logits({"text": TEXTS}))


@settings(max_examples=50, **QUIET)
@given(texts=st.lists(TEXT, min_size=1, max_size=9))
def test_every_form_answers_alike(make_client, texts):
    """The same logits, or the same error message for a blank text."""
    *answers, raw = make_client().together(
        [
            (("POST", PREDICT, {"instances": texts}), {}),
            (("POST", PREDICT, {"inputs": [*map(b64, texts)]}), {}),
            (("POST", INFER, v2(texts)), {}),
            (("POST", INFER), binary(as_bytes(texts), len(texts))),
        ]
    )
    answers.append(raw)
    blank = [not text.strip() for text in texts]
    for answer in answers:
        if any(blank):
            assert answer.status == 400
            assert f"in row {blank.index(True)}" in answer.json()["error"]
        else:
            np.testing.assert_array_equal(
                logits_of(answer), text_logits({"text": texts})
            )


def test_several_inputs_with_texts_and_numbers(make_client):
    rows = [
        {"premise": "a", "text": ["b", "é"], "weight": 0.5},
        {"premise": b64("c"), "text": ["d", b64("漢")], "weight": 2.0},
    ]
    expected = pair_logits(
        {
            "premise": ["a", "c"],
            "text": [["b", "é"], ["d", "漢"]],
            "weight": np.array([0.5, 2.0]),
        }
    )
    client = make_client(PAIR, pair_logits)
    logits = logits_of(client("POST", PREDICT, {"instances": rows}))
    np.testing.assert_array_equal(logits, expected)
    tensors = [
        {"name": "weight", "datatype": "FP32", "shape": [2], "data": [0.5, 2]},
        *v2([["b", "é"], ["d", "漢"]], [2, 2])["inputs"],
        {"name": "premise", "datatype": "BYTES", "shape": [2]},
    ]
    raw = as_bytes(["a", "c"])
    tensors[2]["parameters"] = {"binary_data_size": len(raw)}
    head = json.dumps({"inputs": tensors}).encode()
    response = client(
        "POST", INFER, head + raw, headers=[(LENGTH, str(len(head)))]
    )
    np.testing.assert_array_equal(logits_of(response), expected)


def test_requests_share_a_run(make_client):
    runs = []

    def run(inputs):
        runs.append(inputs["text"].tolist())
        return text_logits(inputs)

    client = make_client(run=run, max_delay=10.0, max_batch=4)
    answers = client.together(
        [(("POST", PREDICT, {"instances": [text]}), {}) for text in TEXTS]
    )
    assert [len(run) for run in runs] == [4]
    for answer, text in zip(answers, TEXTS, strict=True):
        np.testing.assert_array_equal(
            logits_of(answer), text_logits({"text": [text]})
        )


BAD_V1 = [
    ({"instances": ["a", ""]}, "'text'. Received an empty string in row 1"),
    ({"instances": ["a", " \n"]}, "white space alone in row 1"),
    ({"instances": ["a", None]}, "Received: None in row 1"),
    ({"instances": ["a", 1]}, "Received: int in row 1"),
    ({"instances": ["a", {"text": "b"}]}, "Received: dict in row 1"),
    ({"instances": [["a"], ["b"]]}, "'text' of shape"),
    ({"instances": [["a"], ["b", "c"]]}, "Received: list in row 0"),
    ({"inputs": "a"}, "'text' of shape"),
    ({"inputs": b64("a")}, "'text' of shape"),
    ({"inputs": {"text": "a"}}, "'text' of shape"),
    ({"inputs": []}, "row"),
    ({"instances": [{"b64": "%%%"}]}, "base64 in every 'b64' of input 'text'"),
    ({"instances": [{"b64": "é"}]}, "base64"),
    ({"instances": [{"b64": "a"}]}, "base64"),
    ({"instances": [{"b64": "/w=="}]}, "no UTF-8 in row 0"),
    ({"instances": [{"b64": ""}]}, "empty string in row 0"),
    ({"instances": [{"b64": 1}]}, "Expected the inputs ['text']"),
    ({"instances": [{"other": "a"}]}, "Expected the inputs ['text']"),
    (b'{"instances": ["\\ud800"]}', "JSON"),
    (b'{"instances": ["\xff"]}', "JSON"),
    (b'{"instances": ' + b"[" * 900 + b"]" * 900 + b"}", "'text'"),
]


@pytest.mark.parametrize(("body", "message"), BAD_V1)
def test_bad_requests_of_the_first_form(make_client, body, message):
    answer = make_client()("POST", PREDICT, body)
    assert answer.status == 400
    assert message in answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (v2(["a", ""]), "empty string in row 1"),
        (v2(["a", 1]), "Received: int in row 1"),
        (v2(["a", None]), "Received: None in row 1"),
        (v2(["a", {"b64": "YQ=="}]), "Received: dict in row 1"),
        (v2(["a"], [2]), "'data' of input 'text' to have the shape [2]"),
        (v2(["a"], [1, 1]), "'text' with a 'shape' of 1 sizes"),
        (v2(["a"], [-1]), "'shape'"),
        (v2("ab", [2]), "'data' of input 'text' to be a list"),
        (v2([["a"], ["b", "c"]], [3]), "'data' of input 'text'"),
        (v2(["a"], datatype="STRING"), "'text' of datatype BYTES"),
        (v2(["a"], datatype="FP32"), "'text' of datatype BYTES"),
        (v2([], [0]), "row"),
        (v2(["a"], name="other"), "Expected the inputs ['text']"),
    ],
)
def test_bad_tensors_in_json(make_client, body, message):
    answer = make_client()("POST", INFER, body)
    assert answer.status == 400
    assert message in answer.json()["error"]


GOOD = as_bytes(["ab", "c"])


@pytest.mark.parametrize(
    ("raw", "rows", "message"),
    [
        (GOOD[:-1], 2, "0 of the 1 bytes of text 1"),
        (GOOD[:-3], 2, "end in the length of text 1"),
        (GOOD + b"\0", 2, "1 bytes after the last text"),
        (GOOD, 1, "5 bytes after the last text"),
        (GOOD, 3, "11 bytes, too few for 3 lengths"),
        (GOOD, 2**62, "too few"),
        (b"\xff\xff\xff\xff" + GOOD, 2, "of the 4294967295 bytes of text 0"),
        (struct.pack(">I", 2) + b"ab", 1, "33554432 bytes of text 0"),
        (as_bytes(["a", b"\xff"]), 2, "no UTF-8 in row 1"),
        (as_bytes(["a", b"\xed\xa0\x80"]), 2, "no UTF-8 in row 1"),
        (as_bytes(["a", ""]), 2, "empty string in row 1"),
        (b"", 0, "row"),
        (b"", 1, "too few"),
        (np.ones(2, "<f4").tobytes(), 2, "'text'"),
    ],
)
def test_bad_bytes(make_client, raw, rows, message):
    answer = make_client()("POST", INFER, **binary(raw, rows))
    assert answer.status == 400
    error = answer.json()["error"]
    assert message in error
    assert "'text'" in error or rows == 0


def test_too_many_and_too_long_are_said_before_they_are_read(make_client):
    client = make_client(max_batch=3)
    # Were they looked at, the blank one would be named.
    texts = ["a", "", "c", "d"]
    for path, request in (
        (PREDICT, {"body": {"instances": texts}}),
        (INFER, {"body": v2(texts)}),
        (INFER, binary(as_bytes(texts), 4)),
    ):
        answer = client("POST", path, **request)
        assert answer.status == 413
        assert "at most 3 rows" in answer.json()["error"]
    answer = client("POST", PREDICT, {"instances": ["a" * 1_000_001]})
    assert answer.status == 400
    assert "at most 1000000 characters" in answer.json()["error"]


@settings(max_examples=100, **QUIET)
@given(
    raw=st.binary(max_size=40) | st.lists(TEXT, max_size=4).map(as_bytes),
    rows=st.integers(0, 6),
    at=st.integers(0, 40),
    put=st.binary(max_size=3),
)
def test_tampered_bytes_are_answered_or_rejected(
    make_client, raw, rows, at, put
):
    raw = raw[:at] + put + raw[at + len(put) :]
    good = (("POST", PREDICT, {"instances": TEXTS}), {})
    answer, beside = make_client().together(
        [(("POST", INFER), binary(raw, rows)), good]
    )
    assert answer.status in (200, 400)
    if answer.status == 400:
        assert answer.json()["error"]
    np.testing.assert_array_equal(
        logits_of(beside), text_logits({"text": TEXTS})
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["b64", "text", "x"]), inner, max_size=2
        )
    ),
    max_leaves=8,
)


@settings(max_examples=100, **QUIET)
@given(value=JSON, key=st.sampled_from(["instances", "inputs"]))
def test_any_json_is_answered_or_rejected(make_client, value, key):
    answer = make_client()("POST", PREDICT, json.dumps({key: value}).encode())
    assert answer.status in (200, 400)


WHOLE = [
    (PREDICT, json.dumps({"instances": [b64("a"), "b"]}).encode(), []),
    (PREDICT, json.dumps({"inputs": {"text": TEXTS}}).encode(), []),
    (INFER, json.dumps(v2(TEXTS)).encode(), []),
    (INFER, *reversed(binary(as_bytes(TEXTS), len(TEXTS)).values())),
]


@settings(max_examples=200, **QUIET)
@given(
    seed=st.sampled_from(WHOLE),
    cuts=st.lists(
        st.tuples(
            st.integers(0, 250), st.integers(0, 8), st.binary(max_size=6)
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_mutated_requests_are_answered_or_rejected(make_client, seed, cuts):
    path, body, headers = seed
    for at, length, new in cuts:
        body = body[:at] + new + body[at + length :]
    answer = make_client()("POST", path, body, headers=headers)
    assert answer.status in (200, 400)
    if answer.status == 400:
        assert answer.json()["error"]
