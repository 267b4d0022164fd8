"""gRPC service: valid and invalid messages."""

import grpc
import numpy as np
import pytest

from keras_cascade.bundle import Bundle
from keras_cascade.runtime.teachers.grpc_messages import SERVICE, messages
from tests.helpers.grpc_requests import X, infer_request

CODE = grpc.StatusCode


@pytest.fixture(scope="module")
def call(server):
    """A function that sends bytes to a method and returns bytes."""
    with grpc.insecure_channel(server.grpc_url.split("/")[2]) as channel:

        def send(method, request, metadata=()):
            return channel.unary_unary(f"/{SERVICE}/{method}")(
                request, metadata=metadata, timeout=30
            )

        yield send


@pytest.mark.parametrize("raw", [True, False])
def test_tensors_as_bytes_and_as_numbers(call, expected, raw):
    request = infer_request(raw, id="mine", outputs="logits", model_version="1")
    answer = messages().ModelInferResponse.FromString(
        call("ModelInfer", request.SerializeToString())
    )
    (output,) = answer.outputs
    if raw:
        values = np.frombuffer(answer.raw_output_contents[0], "<f4")
    else:
        values = np.array(output.contents.fp32_contents)
    assert (answer.id, answer.model_version) == ("mine", "1")
    assert (output.name, output.datatype) == ("logits", "FP32")
    np.testing.assert_allclose(
        values.reshape(output.shape), expected({"input": X}), atol=1e-5
    )


def test_every_answer_states_the_teacher(server, bundle_path):
    """In metadata that errors carry too, and in the messages."""
    identity = Bundle.load(bundle_path).teacher_identity
    kinds = messages()
    bad = infer_request(shape=[2, 7])
    with grpc.insecure_channel(server.grpc_url.split("/")[2]) as channel:

        def call(method, request):
            try:
                answer, sent = channel.unary_unary(
                    f"/{SERVICE}/{method}"
                ).with_call(request.SerializeToString(), timeout=30)
            except grpc.RpcError as error:
                answer, sent = None, error
            return answer, dict(sent.initial_metadata())

        for method, request in (
            ("ModelInfer", infer_request()),
            ("ModelInfer", bad),
            ("ModelInfer", infer_request(model_name="other")),
            ("ModelReady", kinds.ModelReadyRequest(name="teacher")),
            ("ModelMetadata", kinds.ModelMetadataRequest(name="teacher")),
            ("ModelMetadata", kinds.ModelMetadataRequest(name="other")),
        ):
            answer, metadata = call(method, request)
            assert metadata["x-cascade-teacher"] == identity
            if answer is None:
                continue
            if method == "ModelInfer":
                response = kinds.ModelInferResponse.FromString(answer)
                assert response.parameters["teacher"].string_param == identity
            if method == "ModelMetadata":
                response = kinds.ModelMetadataResponse.FromString(answer)
                assert response.properties["teacher"] == identity
        _, metadata = call("ServerLive", kinds.ServerLiveRequest())
        assert "x-cascade-teacher" not in metadata


def test_messages_are_those_of_the_public_description():
    """KServe's own classes read them: maps are nested entries on the wire."""
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as public

    kinds = messages()
    response = kinds.ModelInferResponse(model_name="m", id="1")
    response.parameters["teacher"].string_param = "abc"
    response.parameters["flag"].bool_param = True
    theirs = public.ModelInferResponse.FromString(response.SerializeToString())
    assert theirs.parameters["teacher"].string_param == "abc"
    assert theirs.parameters["flag"].bool_param is True
    back = kinds.ModelInferResponse.FromString(theirs.SerializeToString())
    assert back == response
    metadata = kinds.ModelMetadataResponse(properties={"teacher": "abc"})
    theirs = public.ModelMetadataResponse.FromString(
        metadata.SerializeToString()
    )
    # KServe's own message has no such field yet, Triton's neither: it is kept
    # as an unknown one, or read.
    assert theirs.SerializeToString() == metadata.SerializeToString()


def twice():
    request = infer_request()
    request.inputs.append(request.inputs[0])
    return request


def both():
    request = infer_request()
    request.inputs[0].contents.fp32_contents.append(1.0)
    return request


@pytest.mark.parametrize(
    "request_, code, names",
    [
        (infer_request(name="other"), CODE.INVALID_ARGUMENT, "'input'"),
        (infer_request(datatype="FP64"), CODE.INVALID_ARGUMENT, "FP32"),
        (
            infer_request(datatype="FP16", raw=False),
            CODE.INVALID_ARGUMENT,
            "FP16",
        ),
        (infer_request(shape=[2, 7]), CODE.INVALID_ARGUMENT, "'input'"),
        (infer_request(shape=[-2, 6]), CODE.INVALID_ARGUMENT, "'shape'"),
        (infer_request(shape=[2**62, 6]), CODE.INVALID_ARGUMENT, "'input'"),
        (infer_request(shape=[0, 6], data=b""), CODE.INVALID_ARGUMENT, "row"),
        (infer_request(shape=[12]), CODE.INVALID_ARGUMENT, "'shape'"),
        (infer_request(data=X.tobytes()[:-1]), CODE.INVALID_ARGUMENT, "bytes"),
        (
            infer_request(data=(X * np.nan).tobytes()),
            CODE.INVALID_ARGUMENT,
            "'input'",
        ),
        (
            infer_request(raw=False, data=[1.0]),
            CODE.INVALID_ARGUMENT,
            "'input'",
        ),
        (infer_request(outputs="other"), CODE.INVALID_ARGUMENT, "'logits'"),
        (twice(), CODE.INVALID_ARGUMENT, "raw_input_contents"),
        (both(), CODE.INVALID_ARGUMENT, "both"),
        (infer_request(model_name="other"), CODE.NOT_FOUND, "'teacher'"),
        (infer_request(model_version="9"), CODE.NOT_FOUND, "'1'"),
        (b"\xff\xff\xff", CODE.INVALID_ARGUMENT, "ModelInferRequest"),
        (b"", CODE.NOT_FOUND, "'teacher'"),
    ],
)
def test_bad_requests_name_the_field(call, request_, code, names):
    if not isinstance(request_, bytes):
        request_ = request_.SerializeToString()
    with pytest.raises(grpc.RpcError) as raised:
        call("ModelInfer", request_)
    assert raised.value.code() == code
    assert names in raised.value.details()


def test_other_methods(call):
    with pytest.raises(grpc.RpcError) as raised:
        call("RepositoryModelUnload", b"")
    assert raised.value.code() == CODE.UNIMPLEMENTED
    with pytest.raises(grpc.RpcError) as raised:
        call("ModelReady", b"\xff")
    assert raised.value.code() == CODE.INVALID_ARGUMENT


def test_metadata_with_an_invalid_row_count(call):
    with pytest.raises(grpc.RpcError) as raised:
        call(
            "ModelInfer",
            infer_request().SerializeToString(),
            metadata=[("x-cascade-rows", "1")],
        )
    assert raised.value.code() == CODE.INVALID_ARGUMENT
    assert "'x-cascade-rows'" in raised.value.details()
