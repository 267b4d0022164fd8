"""gRPC, from messages as they should be to bytes that are none."""

import grpc
import numpy as np
import pytest

from keras_cascade.runtime.teachers.grpc_messages import SERVICE, messages

X = np.random.default_rng(3).normal(size=(2, 6)).astype("float32")
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


def infer(raw=True, **changes):
    """An inference request, with fields of it or of its tensor changed."""
    kinds = messages()
    request = kinds.ModelInferRequest(model_name="teacher")
    tensor = request.inputs.add(name="input", datatype="FP32", shape=[2, 6])
    for name, value in changes.items():
        owner = tensor if name in ("name", "datatype") else request
        if name == "shape":
            tensor.shape[:] = value
        elif name == "outputs":
            request.outputs.add(name=value)
        elif name != "data":
            setattr(owner, name, value)
    if raw:
        request.raw_input_contents.append(changes.get("data", X.tobytes()))
    else:
        values = changes.get("data", X.ravel())
        tensor.contents.fp32_contents.extend(values)
    return request


@pytest.mark.parametrize("raw", [True, False])
def test_tensors_as_bytes_and_as_numbers(call, expected, raw):
    request = infer(raw, id="mine", outputs="logits", model_version="1")
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


def twice():
    request = infer()
    request.inputs.append(request.inputs[0])
    return request


def both():
    request = infer()
    request.inputs[0].contents.fp32_contents.append(1.0)
    return request


@pytest.mark.parametrize(
    "request_, code, names",
    [
        (infer(name="other"), CODE.INVALID_ARGUMENT, "'input'"),
        (infer(datatype="FP64"), CODE.INVALID_ARGUMENT, "FP32"),
        (infer(datatype="FP16", raw=False), CODE.INVALID_ARGUMENT, "FP16"),
        (infer(shape=[2, 7]), CODE.INVALID_ARGUMENT, "'input'"),
        (infer(shape=[-2, 6]), CODE.INVALID_ARGUMENT, "'shape'"),
        (infer(shape=[2**62, 6]), CODE.INVALID_ARGUMENT, "'input'"),
        (infer(shape=[0, 6], data=b""), CODE.INVALID_ARGUMENT, "row"),
        (infer(shape=[12]), CODE.INVALID_ARGUMENT, "'shape'"),
        (infer(data=X.tobytes()[:-1]), CODE.INVALID_ARGUMENT, "bytes"),
        (infer(data=(X * np.nan).tobytes()), CODE.INVALID_ARGUMENT, "'input'"),
        (infer(raw=False, data=[1.0]), CODE.INVALID_ARGUMENT, "'input'"),
        (infer(outputs="other"), CODE.INVALID_ARGUMENT, "'logits'"),
        (twice(), CODE.INVALID_ARGUMENT, "raw_input_contents"),
        (both(), CODE.INVALID_ARGUMENT, "both"),
        (infer(model_name="other"), CODE.NOT_FOUND, "'teacher'"),
        (infer(model_version="9"), CODE.NOT_FOUND, "'1'"),
        (b"\xff\xff\xff", CODE.INVALID_ARGUMENT, "ModelInferRequest"),
        (b"", CODE.NOT_FOUND, "'teacher'"),
    ],
)
def test_bad_requests_name_the_field(call, request_, code, names):
    if not isinstance(request_, bytes):
        request_ = request_.SerializeToString()
    with pytest.raises(grpc.RpcError) as refused:
        call("ModelInfer", request_)
    assert refused.value.code() == code
    assert names in refused.value.details()


def test_other_methods(call):
    with pytest.raises(grpc.RpcError) as refused:
        call("RepositoryModelUnload", b"")
    assert refused.value.code() == CODE.UNIMPLEMENTED
    with pytest.raises(grpc.RpcError) as refused:
        call("ModelReady", b"\xff")
    assert refused.value.code() == CODE.INVALID_ARGUMENT


def test_metadata_that_counts_wrongly(call):
    with pytest.raises(grpc.RpcError) as refused:
        call(
            "ModelInfer",
            infer().SerializeToString(),
            metadata=[("x-cascade-rows", "1")],
        )
    assert refused.value.code() == CODE.INVALID_ARGUMENT
    assert "'x-cascade-rows'" in refused.value.details()
