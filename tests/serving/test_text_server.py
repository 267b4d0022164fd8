"""Texts over every protocol, against a server in a separate process."""

import json
import subprocess
import sys
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from keras_cascade.runtime import (
    EdgeCascade,
    SavedModelTeacher,
    TeacherError,
    student_runtimes,
    teacher_at,
)
from keras_cascade.runtime.inputs import prepare_inputs
from keras_cascade.runtime.teachers.grpc_messages import SERVICE, messages
from keras_cascade.serving import ServerProcess
from tests.helpers.text_teacher import SPECS, make_text_bundle, text_logits

CLIENT = Path(__file__).with_name("triton_text_client.py")
#: Emoji with joiners, combining marks, NUL, the ends of Unicode.
HARD = [
    "plain", "\0", "a\0b\0\0", "👩‍👩‍👧‍👦 family", "e\u0301 and \u00e9",
    "مرحبا", "\U0010ffff", "\ufffe\uffff", "\u200b", '"\\/\b\n', "{'b64': 1}",
    "\ufeffmark", "漢字" * 500,
]  # fmt: skip
WAYS = {
    "rest": ("{url}", {}),
    "v2_json": ("{v2}", {"binary": False}),
    "v2_binary": ("{v2}", {"binary": True}),
    "grpc": ("{grpc}", {}),
}


@pytest.fixture(scope="module")
def server(bundle_path, tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    path = make_text_bundle(bundle_path, folder / "bundle")
    with ServerProcess(path, folder / "log") as running:
        yield running
    assert "Traceback" not in (folder / "log").read_text()


@pytest.fixture(scope="module", params=list(WAYS))
def teacher(request, server):
    url, options = WAYS[request.param]
    url = url.format(
        url=server.url,
        v2=server.url.replace("/v1/", "/v2/"),
        grpc=server.grpc_url,
    )
    remote = teacher_at(url, 4, **options)
    yield remote
    remote.close()


def texts(alphabet=None, **sizes):
    """Texts that a user may send: any but blank ones."""
    return st.text(alphabet or st.characters(codec="utf-8"), **sizes).filter(
        lambda text: text and not text.isspace()
    )


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(rows=st.lists(texts(max_size=30), min_size=1, max_size=9))
@example(rows=HARD)
def test_any_text_arrives_as_it_was_sent(teacher, rows):
    inputs = prepare_inputs(rows, SPECS)
    np.testing.assert_array_equal(teacher.logits(inputs), text_logits(inputs))


def test_a_batch_is_cut_into_requests(server):
    rows = [f"text {number}" for number in range(50)] + ["é" * 30_000]
    inputs = prepare_inputs(rows, SPECS)
    for options in ({"max_rows": 7}, {"max_request_bytes": 200_000}):
        with_limits = teacher_at(server.url, 4, **options)
        np.testing.assert_array_equal(
            with_limits.logits(inputs), text_logits(inputs)
        )
        with_limits.close()


def test_a_rejected_text_is_about_the_input(teacher):
    blank = np.array(["fine", " \n"], object)
    with pytest.raises(TeacherError, match=r"'text'.*row 1") as raised:
        teacher.logits({"text": blank})
    assert raised.value.about_input


def test_bytes_as_tensorflow_serving_takes_them(server):
    answer = httpx.post(
        f"{server.url}:predict",
        json={"instances": [{"b64": "Y2Fmw6k="}, "plain"]},
    )
    np.testing.assert_array_equal(
        answer.json()["predictions"], text_logits({"text": ["café", "plain"]})
    )


def infer(rows, raw=None, values=(), datatype="BYTES"):
    """A gRPC request, with its texts in either place."""
    request = messages().ModelInferRequest(model_name="teacher")
    tensor = request.inputs.add(name="text", datatype=datatype, shape=[rows])
    if raw is not None:
        request.raw_input_contents.append(raw)
    if values:
        tensor.contents.bytes_contents.extend(values)
    return request.SerializeToString()


@pytest.fixture(scope="module")
def call(server):
    """A function that sends bytes to `ModelInfer`."""
    with grpc.insecure_channel(server.grpc_url.split("/")[2]) as channel:
        method = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        yield lambda request: messages().ModelInferResponse.FromString(
            method(request, timeout=30)
        )


def test_grpc_with_texts_in_its_contents(call):
    response = call(infer(len(HARD), values=[text.encode() for text in HARD]))
    (output,) = response.outputs
    np.testing.assert_array_equal(
        np.reshape(output.contents.fp32_contents, output.shape),
        text_logits({"text": HARD}),
    )


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (infer(1, b"\2\0\0\0a"), "1 of the 2 bytes of text 0"),
        (infer(2, b"\1\0\0\0a"), "too few for 2 lengths"),
        (infer(1, b"\1\0\0\0ab"), "1 bytes after the last text"),
        (infer(1, b"\xff\xff\xff\xffa"), "4294967295 bytes of text 0"),
        (infer(2**62, b"\1\0\0\0a"), "too few"),
        (infer(1, b"\1\0\0\0\xff"), "no UTF-8 in row 0"),
        (infer(1, b"\0\0\0\0"), "an empty string in row 0"),
        (infer(1, values=[b"\xff"]), "no UTF-8 in row 0"),
        (infer(2, values=[b"a", b" "]), "white space alone in row 1"),
        (infer(2, values=[b"a"]), "shape [2]"),
        (infer(1), "shape [1]"),
        (infer(1, values=[b"a"], datatype="FP32"), "datatype BYTES"),
        (infer(1, b"\1\0\0\0a", values=[b"a"]), "not in both"),
    ],
)
def test_bad_messages_name_the_input(call, request_, message):
    with pytest.raises(grpc.RpcError) as raised:
        call(request_)
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert message in raised.value.details()
    assert "'text'" in raised.value.details()


VALID = [
    infer(2, b"\1\0\0\0a\2\0\0\0\xc3\xa9"),
    infer(2, values=[b"plain", b"\xc3\xa9"]),
]


@settings(max_examples=100, deadline=None)
@given(
    valid=st.sampled_from(VALID),
    at=st.integers(0, 50),
    length=st.integers(0, 4),
    new=st.binary(max_size=4),
)
def test_mutated_messages_are_answered_or_rejected(
    call, valid, at, length, new
):
    try:
        call(valid[:at] + new + valid[at + length :])
    except grpc.RpcError as error:
        assert error.code().name in ("INVALID_ARGUMENT", "NOT_FOUND")


def test_metadata_says_bytes(server):
    metadata = httpx.get(server.url.replace("/v1/", "/v2/")).json()
    assert metadata["inputs"] == [
        {"name": "text", "datatype": "BYTES", "shape": [-1]}
    ]


class Student:
    """Sure of every text without a question mark."""

    def run(self, inputs):
        assert inputs["text"].dtype == object
        asks = np.array(["?" in text for text in inputs["text"]])
        return {
            "probabilities": np.full((len(asks), 4), 0.25, "float32"),
            "score": np.where(asks, -np.inf, np.inf).astype("float32"),
            "delegate": asks,
        }

    def close(self):
        pass


@pytest.fixture
def edge(server, monkeypatch, tmp_path):
    """A function that loads a cascade whose student is the one above."""
    monkeypatch.setattr(student_runtimes, "open_student", lambda *_: Student())
    opened = []

    def load(teacher, **options):
        opened.append(EdgeCascade.load(server.bundle, teacher, **options))
        return opened[-1]

    yield load
    for one in opened:
        one.close()


def top(texts):
    return text_logits({"text": texts}).argmax(axis=1).tolist()


def test_the_edge_takes_a_text_and_many(server, edge, tmp_path):
    asking = edge(server.grpc_url, log=tmp_path / "log")
    one = asking.predict("Où est ma carte?")
    assert one.source.tolist() == ["cloud"]
    assert one.labels.tolist() == top(["Où est ma carte?"])
    many = asking.predict(["plain", "?\0", "漢字?"])
    assert many.source.tolist() == ["edge", "cloud", "cloud"]
    assert many.labels[1:].tolist() == top(["?\0", "漢字?"])
    with pytest.raises(ValueError, match=r"'text'\. .*empty string in row 1"):
        asking.predict(["fine?", ""])
    logged, _ = asking.log.read()
    assert logged["text"].tolist() == ["Où est ma carte?", "?\0", "漢字?"]


def test_queued_texts_are_answered_later(server, edge, tmp_path):
    files = {"on_failure": "queue", "queue": tmp_path / "queue"}
    nobody = edge("http://127.0.0.1:9/v1/models/teacher", retries=0, **files)
    texts = ["👩‍👩‍👧?", "accepted", "?\0"]
    queued = nobody.predict(texts)
    assert queued.source.tolist() == ["queued", "edge", "queued"]
    nobody.close()
    later = edge(server.url, **files)
    assert later.send_queued() == 2
    with later.queued_answers() as answers:
        assert answers.ids == [queued.ids[0], queued.ids[2]]
        assert answers.labels.tolist() == top([texts[0], texts[2]])


def test_the_clients_of_triton(server):
    """In a separate process, as its messages clash with KServe's."""
    addresses = [url.split("/")[2] for url in (server.url, server.grpc_url)]
    done = subprocess.run(
        [sys.executable, CLIENT, *addresses],
        input=json.dumps(HARD),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert list(answers) == ["http_binary", "http_json", "grpc"]
    for logits in answers.values():
        np.testing.assert_array_equal(logits, text_logits({"text": HARD}))


def test_the_saved_model_in_this_process(server):
    local = SavedModelTeacher(f"{server.bundle}/teacher/1")
    inputs = prepare_inputs(HARD, SPECS)
    np.testing.assert_array_equal(local.logits(inputs), text_logits(inputs))
