"""gRPC server and service: Open Inference Protocol v2.

Requests arrive as bytes and are parsed here: gRPC's own parser answers an
invalid message with INTERNAL and a traceback, though it is the client's
error.
"""

import time

import grpc
import numpy as np
from google.protobuf.message import DecodeError

from keras_cascade.runtime.inputs import TEXT
from keras_cascade.runtime.teachers.grpc_messages import (
    CONTENTS,
    SERVICE,
    messages,
)
from keras_cascade.runtime.teachers.remote_teacher import (
    IDENTITY_HEADER,
    IDENTITY_PARAMETER,
    TOP_K_HEADER,
)
from keras_cascade.runtime.teachers.v2_tensors import (
    V2_TYPES,
    datatype_of,
    to_bytes,
)
from keras_cascade.serving.grpc_reader import MessageReader
from keras_cascade.serving.request_error import RequestError
from keras_cascade.serving.server_log import EDGE_ROWS, RequestRecord
from keras_cascade.serving.teacher_service import named_outputs
from keras_cascade.serving.tensors import TensorReader
from keras_cascade.version import __version__

#: Methods without authorization, for the same reason as over HTTP.
OPEN = ("ServerLive", "ServerReady")
#: Calls of one connection at a time; gRPC holds some kilobytes of each.
MAX_STREAMS = 256
#: NumPy's type of the field in `Contents`, which may be wider than the
#: tensor's: `prepare_inputs` then checks the values.
WIDEST = {
    "BOOL": "bool", "INT8": "int32", "INT16": "int32", "INT32": "int32",
    "INT64": "int64", "UINT8": "uint32", "UINT16": "uint32",
    "UINT32": "uint32", "UINT64": "uint64", "FP32": "float32",
    "FP64": "float64",
}  # fmt: skip
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
        reader: `MessageReader`.
        connections: `GrpcConnections`.
    """

    def __init__(self, service, reader, connections):
        self._service = service
        self._reader = reader
        self._connections = connections
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
        """Returns the handler of a call, or `None` for an unknown method."""
        service, _, name = handler_call_details.method.strip("/").partition("/")
        if service != SERVICE or name not in self._methods:
            return None

        async def handle(requests, context):
            return await self._handle(name, context)

        # As a stream of one message: otherwise gRPC receives the message
        # before it asks who sends it.
        return grpc.stream_unary_rpc_method_handler(handle)

    async def _handle(self, name, context):
        metadata = dict(context.invocation_metadata() or ())
        record = RequestRecord(
            "v2_grpc" if name == "ModelInfer" else "other",
            _text(metadata.get("x-request-id")),
        )
        status, failure = grpc.StatusCode.CANCELLED, None
        connection = None
        try:
            request = b""  # the methods for everyone have no content
            if name not in OPEN:
                self._service.admit(_text(metadata.get("authorization")))
                connection = self._connections.begin(context.peer())
                if name.startswith("Model"):
                    record.teacher = self._service.teacher.identity
                record.read_edge_rows(_text(metadata.get(EDGE_ROWS)))
                record.read_top_k(_text(metadata.get(TOP_K_HEADER)))
            if name == "ModelInfer":
                remaining = context.time_remaining()
                if remaining is not None:
                    record.deadline = time.monotonic() + remaining
                record.client = context.peer().rpartition(":")[0]
                self._service.check_room(record)
            if name not in OPEN:
                request = await self._reader.read(context)
                self._service.hold(len(request), record)
            parsed = self._parse(f"{name}Request", request)
            response = await self._methods[name](parsed, record)
            await _identify(context, record)
            status = grpc.StatusCode.OK
            return response.SerializeToString()
        except RequestError as error:
            status = STATUS[error.status]
            await _identify(context, record)
            await context.abort(status, error.message, _retry_metadata(error))
        except Exception as error:  # the server's own fault
            status, failure = grpc.StatusCode.INTERNAL, error
            await _identify(context, record)
            await context.abort(
                status,
                "The server failed to answer. Its log says more under the "
                f"request id {record.id}.",
            )
        finally:
            if connection is not None:
                self._connections.end(connection, bool(record.rows))
            self._service.release(record)
            record.close(status.name, self._service.metrics, failure)

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
        self._service.find(request.name, record, request.version)
        return self._kinds.ModelReadyResponse(ready=self._service.ready)

    async def _metadata(self, request, record):
        teacher = self._service.find(request.name, record, request.version)
        return self._kinds.ModelMetadataResponse(
            **self._service.metadata(teacher)
        )

    async def _infer(self, request, record):
        teacher = self._service.find(
            request.model_name, record, request.model_version
        )
        for requested in request.outputs:
            if requested.name != teacher.output:
                raise RequestError(
                    400,
                    f"Expected the output '{teacher.output}'. Received: "
                    f"{requested.name[:100]!r}.",
                )

        def parse():
            read = _read_inputs(request, teacher.inputs, teacher.max_rows)
            return teacher.check(read)

        size = 0 if request.raw_input_contents else request.ByteSize()
        inputs = await self._service.parsed(size, parse)
        logits = await self._service.answer(teacher, inputs, record)
        response = self._kinds.ModelInferResponse(
            model_name=self._service.name,
            model_version=teacher.version,
            id=request.id,
        )
        identity = response.parameters[IDENTITY_PARAMETER]
        identity.string_param = teacher.identity
        for name, array in named_outputs(logits, teacher.output).items():
            datatype = datatype_of(array)
            output = response.outputs.add(
                name=name, datatype=datatype, shape=array.shape
            )
            if request.raw_input_contents:
                response.raw_output_contents.append(to_bytes(array))
            else:
                field = getattr(output.contents, CONTENTS[datatype])
                field.extend(array.ravel().tolist())
        return response


async def _identify(context, record):
    """States the teacher's identity before the answer or the error."""
    identity, record.teacher = record.teacher, None
    if identity is not None:
        await context.send_initial_metadata(((IDENTITY_HEADER, identity),))


def grpc_server(service, host, port, connections, budget, credentials=None):
    """Creates the server, bound to its address, in the running event loop.

    Args:
        service: `TeacherService`.
        host: str.
        port: int, or 0 for any free one.
        connections: `GrpcConnections`.
        budget: `ConnectionBudget`.
        credentials: optional gRPC server credentials.

    Returns:
        Tuple of `grpc.aio.Server` and its port.

    Raises:
        OSError: the address cannot be listened on.
    """
    limits = service.limits
    reader = MessageReader(
        service.max_request_bytes,
        limits.max_bytes_in_flight,
        limits.body_seconds,
    )
    server = grpc.aio.server(
        handlers=[GrpcService(service, reader, connections)],
        maximum_concurrent_rpcs=limits.max_connections,
        options=[
            ("grpc.max_receive_message_length", service.max_request_bytes),
            ("grpc.max_send_message_length", -1),
            # Otherwise a second server at the port would share its calls.
            ("grpc.so_reuseport", 0),
            ("grpc.max_allowed_incoming_connections", budget.grpc),
            ("grpc.max_concurrent_streams", MAX_STREAMS),
            (
                "grpc.server_handshake_timeout_ms",
                int(1e3 * limits.head_seconds),
            ),
            ("grpc.max_connection_idle_ms", int(1e3 * limits.idle_seconds)),
            # A client that vanished without a word is noticed.
            ("grpc.keepalive_time_ms", int(1e3 * limits.idle_seconds)),
            ("grpc.keepalive_timeout_ms", int(1e3 * limits.silent_seconds)),
        ],
    )
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        if credentials is None:
            return server, server.add_insecure_port(address)
        return server, server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise OSError(
            f"Expected an address for gRPC to listen on. Received: {address}, "
            f"which cannot be used ({error}). Choose another --grpc-port or "
            "--host."
        ) from None


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
        header = tensor.name, tensor.datatype, list(tensor.shape)
        if raw and tensor.HasField("contents"):
            raise RequestError(
                400,
                f"Expected input '{tensor.name[:100]}' either in its "
                "'contents' or in 'raw_input_contents', not in both.",
            )
        if raw:
            reader.add(*header, raw=raw[position])
        elif tensor.datatype in CONTENTS:
            values = getattr(tensor.contents, CONTENTS[tensor.datatype])
            if tensor.datatype == V2_TYPES[TEXT]:
                values = list(values)
            else:
                # Without a list, whose objects take ten times the bytes.
                values = np.fromiter(values, WIDEST[tensor.datatype])
            reader.add(*header, values=values)
        else:
            raise RequestError(
                400,
                f"Expected the data of input '{tensor.name[:100]}' in "
                "'raw_input_contents': there is no other field for datatype "
                f"{tensor.datatype[:30]!r}.",
            )
    return reader.arrays


def _retry_metadata(error):
    """Returns metadata with the delay: ours and that of gRPC's own retries."""
    if error.retry_after is None:
        return ()
    return (
        ("retry-after", str(error.retry_after)),
        ("grpc-retry-pushback-ms", str(1000 * error.retry_after)),
    )


def _text(value):
    """Returns a metadata value as str, whatever bytes it holds."""
    return (
        value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    )
