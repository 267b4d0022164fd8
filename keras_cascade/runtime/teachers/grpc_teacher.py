"""A teacher behind Open Inference Protocol v2 over gRPC."""

from __future__ import annotations

import contextlib
import threading
import urllib.parse
import uuid

import numpy as np

from keras_cascade.errors import TeacherError
from keras_cascade.runtime.teachers.grpc_messages import (
    CONTENTS,
    SERVICE,
    messages,
)
from keras_cascade.runtime.teachers.remote_teacher import (
    RemoteTeacher,
    is_this_machine,
)
from keras_cascade.runtime.teachers.v2_tensors import (
    NUMPY_TYPES,
    datatype_of,
    from_bytes,
    to_bytes,
)

LOST = ("UNAVAILABLE", "DEADLINE_EXCEEDED")
RETRIED = ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED")
ABOUT_INPUT = ("INVALID_ARGUMENT", "OUT_OF_RANGE")
REFUSED = (
    "UNAUTHENTICATED", "PERMISSION_DENIED", "NOT_FOUND", "UNIMPLEMENTED",
    "FAILED_PRECONDITION",
)  # fmt: skip
ADVICE = {
    "UNAUTHENTICATED": " Pass the right `token=`.",
    "PERMISSION_DENIED": " Pass a `token=` that may ask this teacher.",
    "NOT_FOUND": " Is the model's name in the URL right?",
    "DEADLINE_EXCEEDED": " Is it overloaded? Pass a longer `timeout`.",
    "UNAVAILABLE": " Is it running? Start it with `keras-cascade serve "
    "BUNDLE`.",
}


class GrpcTeacher(RemoteTeacher):
    """Asks a teacher over gRPC. Needs the `grpcio` and `protobuf` packages.

    Works against Triton, KServe and `keras-cascade serve`. Arguments as in
    `RemoteTeacher`; the URL is such as `"grpc://127.0.0.1:8001/teacher"`,
    the model's name last, or `"grpcs://..."` for TLS.
    """

    def check(self) -> None:
        """Raises a `TeacherError` unless the model says that it is ready."""
        request = self._messages.ModelReadyRequest(name=self._model)
        if not self._call("ModelReady", request).ready:
            raise TeacherError(
                f"The teacher at {self.url} says that it is not ready.",
                retryable=True,
            )

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def _prepare(self):
        host, target, self._model = _parts(self.url)
        encrypted = self.url.startswith("grpcs:")
        self._warn_of_open_token(host, encrypted)
        try:
            import grpc

            self._messages = messages()
        except ImportError as error:
            raise TeacherError(
                "A teacher at a grpc:// URL needs gRPC: install `grpcio` and "
                "`protobuf`, or pass its http:// URL."
            ) from error
        self._grpc = grpc
        self._metadata = (
            [("authorization", f"Bearer {self._token}")] if self._token else []
        )
        options = [
            ("grpc.max_send_message_length", self._max_request_bytes),
            ("grpc.max_receive_message_length", self._max_response_bytes),
            ("grpc.enable_http_proxy", 0 if is_this_machine(host) else 1),
            # Else a new channel would share the old one's waiting time.
            ("grpc.use_local_subchannel_pool", 1),
        ]
        if encrypted:
            credentials = grpc.ssl_channel_credentials(_roots(self._ca_file))
        self._channel = GrpcChannel(
            lambda: (
                grpc.secure_channel(target, credentials, options)
                if encrypted
                else grpc.insecure_channel(target, options)
            ),
            {name: self._method(name) for name in ("ModelInfer", "ModelReady")},
            self._is_lost,
        )

    def _encoded(self, inputs):
        m = self._messages
        request = m.ModelInferRequest(
            model_name=self._model,
            id=uuid.uuid4().hex,
            inputs=[
                m.Tensor(
                    name=name,
                    datatype=datatype_of(array),
                    shape=array.shape,
                )
                for name, array in inputs.items()
            ],
            outputs=[m.RequestedOutput(name=self._output)],
            raw_input_contents=[to_bytes(a) for a in inputs.values()],
        )
        return request, request.ByteSize()

    def _answered(self, request, rows):
        with self._reported(rows) as report:
            answer = self._call("ModelInfer", request, report)
        try:
            return self._tensor(answer)
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise TeacherError(
                f"The teacher's answer has no usable output '{self._output}' "
                f"({type(error).__name__}: {str(error)[:200]}).",
                invalid_answer=True,
            ) from error

    def _tensor(self, answer):
        for number, tensor in enumerate(answer.outputs):
            if tensor.name != self._output:
                continue
            shape = list(tensor.shape)
            if answer.raw_output_contents:
                raw = answer.raw_output_contents[number]
                return from_bytes(raw, tensor.datatype, shape)
            values = getattr(tensor.contents, CONTENTS[tensor.datatype])
            dtype = NUMPY_TYPES[tensor.datatype]
            return np.array(values, dtype).reshape(shape)
        raise KeyError(self._output)

    def _method(self, name):
        """Returns the arguments of `grpc.Channel.unary_unary`."""
        return (
            f"/{SERVICE}/{name}",
            lambda message: message.SerializeToString(),
            getattr(self._messages, f"{name}Response").FromString,
        )

    def _is_lost(self, error):
        return (
            isinstance(error, self._grpc.RpcError) and error.code().name in LOST
        )

    def _call(self, name, request, headers=None):
        try:
            return self._channel.call(
                name,
                request,
                timeout=self.timeout,
                metadata=[*self._metadata, *(headers or {}).items()],
            )
        except self._grpc.RpcError as error:
            raise self._failure(error) from error
        except ValueError as error:  # the channel was closed
            raise TeacherError(
                f"The connection to {self.url} cannot be used: {error}"
            ) from error

    def _failure(self, error):
        code, details = error.code().name, error.details() or ""
        # The same code as for an overloaded server, but it will not pass.
        too_large = "larger than max" in details
        advice = (
            " Pass smaller batches or a larger `max_response_bytes`."
            if too_large
            else ADVICE.get(code, "")
        )
        return TeacherError(
            f"The teacher does not answer at {self.url} ({code}: "
            f"{details[:300]}).{advice}",
            retryable=code in RETRIED and not too_large,
            refused=code in REFUSED or too_large,
            about_input=code in ABOUT_INPUT,
        )


class GrpcChannel:
    """gRPC channel that is replaced after its connection was lost.

    A `grpc.Channel` that has lost its server reconnects by itself, at longer
    and longer intervals, and fails every call in between at once, though the
    server may be back. Here the circuit breaker decides when to ask again: a
    lost channel serves only the calls that are under way on it, and the next
    call creates another.

    Args:
        connect: function that returns a new `grpc.Channel`.
        methods: dict of name to the arguments of `Channel.unary_unary`.
        lost: function from `grpc.RpcError` to bool; `True` where the call
            failed with its connection.
    """

    def __init__(self, connect, methods, lost):
        self._connect = connect
        self._methods = methods
        self._lost = lost
        self._lock = threading.Lock()
        self._current = None
        self._closed = False

    def call(self, name, request, **options):
        """Calls a method, on a connection that is not known to be lost.

        Args:
            name: str, one of `methods`.
            request: message.
            **options: of the call, such as `timeout`.

        Returns:
            The answer's message.

        Raises:
            grpc.RpcError: the call failed.
            ValueError: this object was closed.
        """
        with self._connection() as connection:
            try:
                return connection.methods[name](request, **options)
            except Exception as error:
                if self._lost(error):
                    self._replace(connection)
                raise

    def close(self):
        """Closes the connection and ends the calls on it."""
        with self._lock:
            self._closed = True
            connection, self._current = self._current, None
        if connection is not None:
            connection.channel.close()

    @contextlib.contextmanager
    def _connection(self):
        with self._lock:
            if self._closed:
                raise ValueError("it was closed")
            if self._current is None:
                self._current = _Connection(self._connect(), self._methods)
            connection = self._current
            connection.calls += 1
        try:
            yield connection
        finally:
            with self._lock:
                connection.calls -= 1
                unused = connection.replaced and not connection.calls
            if unused:
                connection.channel.close()

    def _replace(self, connection):
        with self._lock:
            connection.replaced = True
            if self._current is connection:
                self._current = None


class _Connection:
    def __init__(self, channel, methods):
        self.channel = channel
        self.methods = {
            name: channel.unary_unary(*arguments)
            for name, arguments in methods.items()
        }
        self.calls = 0
        self.replaced = False


def _parts(url):
    """Splits a gRPC URL into host, `host:port` and model."""
    try:
        parsed = urllib.parse.urlsplit(url)
        port, model = parsed.port, parsed.path.strip("/")
    except ValueError:
        port = model = None
    if not port or not model or "/" in model or not parsed.hostname:
        raise ValueError(
            "Expected a URL such as 'grpc://127.0.0.1:8001/teacher', with a "
            f"port and the model's name. Received: '{url}'."
        )
    host = parsed.hostname
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return host, target, model


def _roots(ca_file):
    if ca_file is None:
        return None
    try:
        with open(ca_file, "rb") as file:
            return file.read()
    except OSError as error:
        raise ValueError(
            "Expected `ca_file` to be a file of PEM certificates. Received: "
            f"'{ca_file}' ({error.strerror})."
        ) from None
