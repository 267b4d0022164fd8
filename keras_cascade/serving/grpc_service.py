"""The teacher over gRPC, by Open Inference Protocol v2.

Requests arrive as bytes and are parsed here: what gRPC cannot parse itself
it answers with INTERNAL and a traceback, though the client is to blame.
"""

import grpc
from google.protobuf.message import DecodeError

from keras_cascade.runtime.teachers.grpc_messages import (
    CONTENTS,
    SERVICE,
    messages,
)
from keras_cascade.serving.request_error import RequestError
from keras_cascade.serving.request_record import EDGE_ROWS, RequestRecord
from keras_cascade.serving.tensors import TensorReader
from keras_cascade.version import __version__

#: Open to everyone, for the same reason as over HTTP.
OPEN = ("ServerLive", "ServerReady")
STATUS = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}


class GrpcService(grpc.GenericRpcHandler):
    """Handles the calls of `inference.GRPCInferenceService`.

    Args:
        service: `TeacherService`.
    """

    def __init__(self, service):
        self._service = service
        self._kinds = messages()
        self._methods = {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ServerMetadata": self._server,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._metadata,
            "ModelInfer": self._infer,
        }

    def service(self, handler_call_details):
        """The handler of one call, or `None` for an unknown method."""
        service, _, name = handler_call_details.method.strip("/").partition("/")
        if service != SERVICE or name not in self._methods:
            return None

        async def handle(request, context):
            return await self._handle(name, request, context)

        return grpc.unary_unary_rpc_method_handler(handle)

    async def _handle(self, name, request, context):
        metadata = dict(context.invocation_metadata() or ())
        record = RequestRecord(
            "v2_grpc" if name == "ModelInfer" else "other",
            _text(metadata.get("x-request-id")),
        )
        status, error = grpc.StatusCode.CANCELLED, None
        try:
            if name not in OPEN:
                self._service.admit(_text(metadata.get("authorization")))
            record.read_edge_rows(_text(metadata.get(EDGE_ROWS)))
            parsed = self._parse(f"{name}Request", request)
            response = await self._methods[name](parsed, record)
            status = grpc.StatusCode.OK
            return response.SerializeToString()
        except RequestError as refused:
            status = STATUS[refused.status]
            await context.abort(status, refused.message, _retry(refused))
        except Exception as caught:  # the server's own fault
            status, error = grpc.StatusCode.INTERNAL, caught
            await context.abort(
                status,
                "The server failed to answer. Its log says more under the "
                f"request id {record.id}.",
            )
        finally:
            record.close(status.name, self._service.metrics, error)

    def _parse(self, kind, request):
        try:
            return getattr(self._kinds, kind).FromString(request)
        except DecodeError as error:
            raise RequestError(
                400, f"Expected a {kind} message: {error}."
            ) from None

    async def _live(self, request, record):
        return self._kinds.ServerLiveResponse(live=True)

    async def _ready(self, request, record):
        return self._kinds.ServerReadyResponse(ready=self._service.ready)

    async def _server(self, request, record):
        return self._kinds.ServerMetadataResponse(
            name="keras-cascade", version=__version__
        )

    async def _model_ready(self, request, record):
        self._service.find(request.name, request.version)
        return self._kinds.ModelReadyResponse(ready=self._service.ready)

    async def _metadata(self, request, record):
        self._service.find(request.name, request.version)
        return self._kinds.ModelMetadataResponse(**self._service.metadata())

    async def _infer(self, request, record):
        teacher = self._service.find(request.model_name, request.model_version)
        for wanted in request.outputs:
            if wanted.name != teacher.output:
                raise RequestError(
                    400,
                    f"Expected the output '{teacher.output}'. Received: "
                    f"{wanted.name[:100]!r}.",
                )
        inputs = _read_inputs(request, teacher.inputs, teacher.max_rows)
        logits = await self._service.answer(teacher, inputs, record)
        response = self._kinds.ModelInferResponse(
            model_name=self._service.name,
            model_version=teacher.version,
            id=request.id,
        )
        output = response.outputs.add(
            name=teacher.output, datatype="FP32", shape=logits.shape
        )
        if request.raw_input_contents:
            response.raw_output_contents.append(
                logits.astype("<f4", copy=False).tobytes()
            )
        else:
            output.contents.fp32_contents.extend(logits.ravel().tolist())
        return response


def _read_inputs(request, specs, max_rows):
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise RequestError(
            400,
            "Expected as many 'raw_input_contents' as inputs, "
            f"{len(request.inputs)}. Received: {len(raw)}.",
        )
    reader = TensorReader(specs, max_rows)
    for position, tensor in enumerate(request.inputs):
        described = tensor.name, tensor.datatype, list(tensor.shape)
        if raw and tensor.HasField("contents"):
            raise RequestError(
                400,
                f"Expected input '{tensor.name[:100]}' either in its "
                "'contents' or in 'raw_input_contents', not in both.",
            )
        if raw:
            reader.add(*described, raw=raw[position])
        elif tensor.datatype in CONTENTS:
            values = getattr(tensor.contents, CONTENTS[tensor.datatype])
            reader.add(*described, values=list(values))
        else:
            raise RequestError(
                400,
                f"Expected the data of input '{tensor.name[:100]}' in "
                "'raw_input_contents': there is no other place for datatype "
                f"{tensor.datatype[:30]!r}.",
            )
    return reader.arrays


def _retry(error):
    """When to try again, for people and for gRPC's own retries."""
    if error.retry_after is None:
        return ()
    return (
        ("retry-after", str(error.retry_after)),
        ("grpc-retry-pushback-ms", str(1000 * error.retry_after)),
    )


def _text(value):
    """Metadata as text, whatever bytes a client put into it."""
    return (
        value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    )
