"""Mutual TLS: the client's certificate, over HTTP and gRPC."""

import ssl
from concurrent import futures

import grpc
import numpy as np
import pytest
import trustme

from keras_cascade.runtime import EdgeCascade, TeacherError, teacher_at
from keras_cascade.runtime.teachers.grpc_messages import SERVICE, messages
from tests.helpers.socket_servers import http_server

X = {"input": np.zeros((1, 2), "float32")}
LOGITS = np.array([[1.0, 2.0]], "<f4")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """PEM files of an authority and of one client that it knows."""
    folder = tmp_path_factory.mktemp("tls")
    authority, other = trustme.CA(), trustme.CA()
    found = {"ca": folder / "ca.pem"}
    authority.cert_pem.write_to_path(found["ca"])
    for name, by in (("client", authority), ("unknown", other)):
        one = by.issue_cert(f"{name}@example.org")
        found[f"{name}_key"] = folder / f"{name}.key"
        found[f"{name}_cert"] = folder / f"{name}.pem"
        found[f"{name}_both"] = folder / f"{name}.both.pem"
        one.private_key_pem.write_to_path(found[f"{name}_key"])
        one.cert_chain_pems[0].write_to_path(found[f"{name}_cert"])
        one.private_key_and_cert_chain_pem.write_to_path(found[f"{name}_both"])
    found["server"] = authority.issue_cert("127.0.0.1", "localhost")
    return found


@pytest.fixture
def http_url(files):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    files["server"].configure_cert(context)
    context.load_verify_locations(files["ca"])
    context.verify_mode = ssl.CERT_REQUIRED
    answer = {"predictions": LOGITS.tolist()}
    with http_server(lambda *_: (200, answer), context) as server:
        yield f"{server.url}/v1/models/teacher"


@pytest.fixture
def grpc_url(files):
    def infer(request, context):
        answer = messages().ModelInferResponse(id=request.id)
        answer.outputs.add(name="logits", datatype="FP32", shape=[1, 2])
        answer.raw_output_contents.append(LOGITS.tobytes())
        return answer

    handler = grpc.unary_unary_rpc_method_handler(
        infer,
        messages().ModelInferRequest.FromString,
        lambda one: one.SerializeToString(),
    )
    server = grpc.server(
        futures.ThreadPoolExecutor(1),
        handlers=[
            grpc.method_handlers_generic_handler(
                SERVICE, {"ModelInfer": handler}
            )
        ],
    )
    one = files["server"]
    credentials = grpc.ssl_server_credentials(
        [(one.private_key_pem.bytes(), one.cert_chain_pems[0].bytes())],
        files["ca"].read_bytes(),
        require_client_auth=True,
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield f"grpcs://127.0.0.1:{port}/teacher"
    server.stop(0).wait()


@pytest.fixture(params=["http_url", "grpc_url"])
def url(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("in_one_file", [False, True])
def test_a_known_client_is_answered(url, files, in_one_file):
    pair = {"client_cert": files["client_both"]}
    if not in_one_file:
        pair = {
            "client_cert": files["client_cert"],
            "client_key": files["client_key"],
        }
    teacher = teacher_at(url, 2, ca_file=files["ca"], **pair)
    np.testing.assert_array_equal(teacher.logits(X), LOGITS)
    teacher.close()


@pytest.mark.parametrize("name", [None, "unknown"])
def test_others_are_not(url, files, name):
    pair = {"client_cert": files[f"{name}_both"]} if name else {}
    teacher = teacher_at(url, 2, ca_file=files["ca"], timeout=5.0, **pair)
    with pytest.raises(TeacherError):
        teacher.logits(X)
    teacher.close()


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("http://127.0.0.1:9/v1/models/t", {"client_cert": "c"}, "https://"),
        ("grpc://127.0.0.1:9/t", {"client_cert": "c"}, "grpcs://"),
        (
            "https://127.0.0.1:9/v1/models/t",
            {"client_key": "k"},
            "the key alone",
        ),
        ("https://127.0.0.1:9/v1/models/t", {"client_cert": "no"}, "PEM cert"),
        ("grpcs://127.0.0.1:9/t", {"client_cert": "no"}, "PEM certificates"),
    ],
)
def test_options_that_do_not_fit(url, options, message):
    with pytest.raises(ValueError, match=message):
        teacher_at(url, 2, **options)


def test_the_cascade_passes_them_on(http_url, files, bundle_path, blobs):
    x, _ = blobs(40)
    with EdgeCascade.load(
        bundle_path, http_url, "answer", ca_file=files["ca"], retries=0,
        client_cert=files["client_both"], teacher_identity="off",
    ) as edge:  # fmt: skip
        found = edge.predict(x)
    # It was reached: the answer of two classes fails validation.
    assert "logits of shape" in found.teacher_error
