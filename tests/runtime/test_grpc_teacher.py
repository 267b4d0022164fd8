"""`GrpcTeacher` against the message descriptors of Triton's client."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from keras_cascade.runtime import GrpcTeacher, TeacherError
from keras_cascade.runtime.teachers import grpc_messages
from tests.helpers.socket_servers import private_authority

X = {"input": np.arange(12, dtype="float32").reshape(2, 6)}
SUMS = [[15, 0], [51, 0]]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server in another process, with `port`, `tls_port`, `ca_file`."""
    folder = tmp_path_factory.mktemp("grpc")
    _, ca_file, certificate = private_authority(folder)
    key, chain = folder / "key.pem", folder / "chain.pem"
    certificate.private_key_pem.write_to_path(key)
    certificate.cert_chain_pems[0].write_to_path(chain)
    process = subprocess.Popen(
        [
            sys.executable, str(Path(__file__).with_name("grpc_server.py")),
            str(key), str(chain),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    process.port, process.tls_port = map(int, process.stdout.readline().split())
    process.ca_file = ca_file
    yield process
    process.kill()  # some of its threads hang on purpose
    process.communicate()


@pytest.fixture
def ask(server):
    def call(model, x=X, **options):
        teacher = GrpcTeacher(
            f"grpc://127.0.0.1:{server.port}/{model}", 2, **options
        )
        try:
            return teacher.logits(x)
        finally:
            teacher.close()

    return call


@pytest.mark.parametrize("model", ["teacher", "numbers"])
def test_the_conversation(ask, model):
    found = ask(model)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, SUMS)


def test_other_types_names_and_many_rows(ask):
    rows = np.arange(5)
    x = {
        "a": rows.reshape(5, 1).astype(">i8") * 10**10,
        "b": np.ones((5, 3), "uint8"),
    }
    found = ask("teacher", x, max_rows=2)
    np.testing.assert_array_equal(
        found[:, 0], (rows * 10**10 + 3).astype("float32")
    )


def test_a_token_travels_as_metadata(ask):
    np.testing.assert_array_equal(ask("token", token="secret"), np.ones((2, 2)))
    np.testing.assert_array_equal(ask("token"), np.zeros((2, 2)))


def test_a_private_authority(server):
    url = f"grpcs://127.0.0.1:{server.tls_port}/teacher"
    teacher = GrpcTeacher(url, 2, ca_file=server.ca_file, token="secret")
    np.testing.assert_array_equal(teacher.logits(X), SUMS)
    teacher.close()
    stranger = GrpcTeacher(url, 2)
    with pytest.raises(TeacherError, match="UNAVAILABLE"):
        stranger.logits(X)
    stranger.close()


@pytest.mark.parametrize(
    ("code", "retryable", "refused", "about_input"),
    [
        ("UNAVAILABLE", True, False, False),
        ("RESOURCE_EXHAUSTED", True, False, False),
        ("DEADLINE_EXCEEDED", True, False, False),
        ("INTERNAL", False, False, False),
        ("UNKNOWN", False, False, False),
        ("INVALID_ARGUMENT", False, True, True),
        ("UNAUTHENTICATED", False, True, False),
        ("NOT_FOUND", False, True, False),
        ("UNIMPLEMENTED", False, True, False),
    ],
)
def test_errors_by_status(ask, code, retryable, refused, about_input):
    with pytest.raises(TeacherError, match=rf"{code}: why") as caught:
        ask(f"{code}-why")
    assert caught.value.retryable is retryable
    assert caught.value.refused is refused
    assert caught.value.about_input is about_input


@pytest.mark.parametrize("model", ["nan", "shape", "name", "type", "short"])
def test_answers_that_fail_validation(ask, model):
    with pytest.raises(TeacherError) as caught:
        ask(model)
    assert caught.value.invalid_answer


def test_an_empty_answer(ask):
    with pytest.raises(TeacherError, match="no usable output 'logits'"):
        ask("empty")


def test_the_whole_call_ends_in_time(ask):
    with pytest.raises(TeacherError, match="DEADLINE_EXCEEDED") as caught:
        ask("hang", timeout=0.1)
    assert caught.value.retryable


def test_a_long_answer_is_not_taken(ask):
    with pytest.raises(TeacherError, match="max_response_bytes") as caught:
        ask("long", max_response_bytes=10**6)
    assert not caught.value.retryable


def test_a_long_request_is_cut_or_refused(ask):
    np.testing.assert_array_equal(ask("teacher", max_request_bytes=140), SUMS)
    with pytest.raises(TeacherError, match="One example takes") as caught:
        ask("teacher", max_request_bytes=60)
    assert caught.value.about_input


def test_readiness_and_the_end(server):
    url = f"grpc://127.0.0.1:{server.port}/"
    ready, unready = (
        GrpcTeacher(url + "teacher", 2),
        GrpcTeacher(url + "unready", 2),
    )
    ready.check()
    with pytest.raises(TeacherError, match="not ready") as caught:
        unready.check()
    assert caught.value.retryable
    for teacher in (ready, unready):
        teacher.close()
        with pytest.raises(TeacherError, match="cannot be used"):
            teacher.logits(X)


def test_nobody_listens():
    teacher = GrpcTeacher("grpc://127.0.0.1:9/teacher", 2, timeout=5.0)
    with pytest.raises(TeacherError, match=r"UNAVAILABLE.*Is it running") as e:
        teacher.logits(X)
    assert e.value.retryable
    teacher.close()


def test_threads_share_a_channel(server):
    teacher = GrpcTeacher(f"grpc://127.0.0.1:{server.port}/teacher", 2)
    found = {}

    def work(number):
        x = {"input": np.full((1, 4), number, "float32")}
        found[number] = float(teacher.logits(x)[0, 0])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    teacher.close()
    assert found == {i: 4.0 * i for i in range(12)}


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(TeacherError, match="install `grpcio`"):
        GrpcTeacher("grpc://127.0.0.1:9/teacher", 2)


def test_a_file_that_holds_no_certificates(tmp_path):
    with pytest.raises(ValueError, match="PEM certificates"):
        GrpcTeacher("grpcs://h:1/t", 2, ca_file=tmp_path / "none")


# What Triton's client calls the messages to which we gave shorter names.
THEIR_NAMES = {
    "Contents": ["InferTensorContents"],
    "RequestedOutput": ["ModelInferRequest.InferRequestedOutputTensor"],
    "Tensor": [
        "ModelInferRequest.InferInputTensor",
        "ModelInferResponse.InferOutputTensor",
    ],
    "TensorMetadata": ["ModelMetadataResponse.TensorMetadata"],
}
DESCRIBE = """
import operator, sys
from tritonclient.grpc import service_pb2
for name in sys.argv[1:]:
    message = operator.attrgetter(name)(service_pb2)
    for f in message.DESCRIPTOR.fields:
        print(name, f.name, f.number, f.type, f.is_repeated)
"""


def test_the_messages_are_the_protocols():
    """Field by field against the descriptors that Triton's client ships."""
    ours = {
        f"{theirs} {f.name} {f.number} {f.type} {f.is_repeated}"
        for name, kind in vars(grpc_messages.messages()).items()
        for theirs in THEIR_NAMES.get(name, [name])
        for f in kind.DESCRIPTOR.fields
    }
    names = {line.split()[0] for line in ours}
    run = subprocess.run(
        [sys.executable, "-c", DESCRIBE, *names],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ours
    # In the Open Inference Protocol, not in Triton's.
    ours.remove("ModelMetadataResponse properties 6 11 True")
    assert ours <= set(run.stdout.splitlines())
