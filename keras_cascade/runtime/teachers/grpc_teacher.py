"""A teacher behind Open Inference Protocol v2 over gRPC."""

from __future__ import annotations

import contextlib
import time
import urllib.parse
import uuid

import numpy as np

from keras_cascade.errors import TeacherError
from keras_cascade.runtime.teachers.grpc_channel import GrpcChannel
from keras_cascade.runtime.teachers.grpc_messages import (
    CONTENTS,
    SERVICE,
    messages,
)
from keras_cascade.runtime.teachers.remote_teacher import (
    IDENTITY_HEADER,
    IDENTITY_PARAMETER,
    MAX_BYTES,
    ROWS_HEADER,
    TOP_K_OUTPUTS,
    RemoteTeacher,
    is_this_machine,
)
from keras_cascade.runtime.teachers.teacher_identity import Proof
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
        """Raises a `TeacherError` unless the model is ready to answer.

        With a `TeacherIdentity` the model must be the bundle's teacher.
        """
        request = self._messages.ModelReadyRequest(name=self._model)
        end = time.monotonic() + self.timeout
        with self._errors(), self._channel.connection() as connection:
            answer, stated = self._call(connection, "ModelReady", request, end)
            if not answer.ready:
                raise TeacherError(
                    f"The teacher at {self.url} says that it is not ready.",
                    retryable=True,
                )
            identity = self._identity
            if identity is None or identity.matches(stated, self.url):
                return
            if identity.probes:
                connection.proof = self._proof(connection, end)

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
            (
                "grpc.max_receive_message_length",
                self._max_response_bytes or MAX_BYTES,
            ),
            ("grpc.enable_http_proxy", 0 if is_this_machine(host) else 1),
            # Else a new channel would share the old one's waiting time.
            ("grpc.use_local_subchannel_pool", 1),
            # Else gRPC itself repeats a call on another connection.
            ("grpc.enable_retries", 0),
        ]
        if encrypted:
            cert, key = self._client_cert, self._client_key or self._client_cert
            credentials = grpc.ssl_channel_credentials(
                _content(self._ca_file, "ca_file"),
                _content(key, "client_key"),
                _content(cert, "client_cert"),
            )
        self._channel = GrpcChannel(
            lambda: (
                grpc.secure_channel(target, credentials, options)
                if encrypted
                else grpc.insecure_channel(target, options)
            ),
            {name: self._method(name) for name in ("ModelInfer", "ModelReady")},
            self._is_lost,
            watched=self._identity is not None and self._identity.probes,
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
        end = time.monotonic() + self.timeout
        with self._reported(rows) as report, self._errors():
            for _ in range(2):
                with self._channel.connection() as connection:
                    answer, stated = self._call(
                        connection, "ModelInfer", request, end, report
                    )
                    self._check_id(answer, request)
                    version = answer.model_version or None
                    if self._accepted(connection, stated, version, end):
                        return self._output_of(answer)
                    self._channel.replace(connection)
                    report.pop(ROWS_HEADER, None)  # answered, so counted
        raise self._lost_error()

    def _accepted(self, connection, stated, version, end):
        """Checks that an answer is the bundle's teacher's.

        Returns:
            `False` where its connection was lost before that was known.

        Raises:
            TeacherError: it is another teacher's.
        """
        identity = self._identity
        if identity is None or identity.matches(stated, self.url):
            connection.unwatch()
            return True
        if not identity.probes:
            return True
        if connection.proof is None or not connection.proof.holds(version):
            connection.proof = self._proof(connection, end)
        return connection.steady and connection.proof.version == version

    def _proof(self, connection, end):
        """Asks a connection about the probe rows.

        Raises:
            TeacherError: the answers are not the bundle's teacher's.
        """
        parts, versions = [], set()
        for request, _ in self._requests(self._identity.probe_inputs()):
            answer, _ = self._call(connection, "ModelInfer", request, end)
            self._check_id(answer, request)
            parts.append(self._output_of(answer))
            versions.add(answer.model_version or None)
        self._identity.check_probes(parts, self.url)
        # Of several versions none is proven.
        return Proof(versions.pop() if len(versions) == 1 else object())

    def _check_id(self, answer, request):
        # Without an id the answer is that of its HTTP/2 stream.
        if answer.id not in ("", request.id):
            raise TeacherError(
                f"The teacher at {self.url} answered another request. "
                f"Expected: id '{request.id}'. Received: '{answer.id[:99]}'. "
                "Is a broken proxy before it?",
                retryable=True,
            )

    def _lost_error(self):
        return TeacherError(
            f"The connection to {self.url} was lost before its teacher's "
            "identity was checked.",
            retryable=True,
        )

    def _output_of(self, answer):
        try:
            return self._tensor(answer)
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise TeacherError(
                f"The teacher's answer has no usable output '{self._output}' "
                f"({type(error).__name__}: {str(error)[:200]}).",
                invalid_answer=True,
            ) from error

    def _tensor(self, answer):
        """Returns the output's array; of the k largest logits a dict."""
        names = [tensor.name for tensor in answer.outputs]
        if self._top_k is not None and names == list(TOP_K_OUTPUTS):
            return {
                name: _array(answer, number)
                for number, name in enumerate(names)
            }
        if self._output not in names:
            raise KeyError(self._output)
        return _array(answer, names.index(self._output))

    def _method(self, name):
        """Returns the arguments of `grpc.Channel.unary_unary`."""
        return (
            f"/{SERVICE}/{name}",
            lambda message: message.SerializeToString(),
            getattr(self._messages, f"{name}Response").FromString,
        )

    def _is_lost(self, error):
        cause = error.__cause__ if isinstance(error, TeacherError) else error
        return (
            isinstance(cause, self._grpc.RpcError) and cause.code().name in LOST
        )

    def _call(self, connection, name, request, end, headers=None):
        """Returns the answer, and the identity that it states or `None`."""
        connection.wait(end - time.monotonic())
        metadata = [*self._metadata, *(headers or {}).items()]
        try:
            answer, call = connection.methods[name].with_call(
                request,
                timeout=max(0.0, end - time.monotonic()),
                metadata=metadata,
            )
        except self._grpc.RpcError as error:
            raise self._failure(connection, error, end) from error
        stated = _stated(call)
        if stated is None and name == "ModelInfer":
            parameter = answer.parameters.get(IDENTITY_PARAMETER)
            stated = parameter.string_param if parameter else None
        return answer, stated or None

    @contextlib.contextmanager
    def _errors(self):
        try:
            yield
        except ValueError as error:  # the channel was closed
            raise TeacherError(
                f"The connection to {self.url} cannot be used: {error}."
            ) from error

    def _failure(self, connection, error, end):
        code, details = error.code().name, error.details() or ""
        # The same code as for an overloaded server, but it will not pass.
        too_large = "larger than max" in details
        advice = (
            " Pass smaller batches or a larger `max_response_bytes`."
            if too_large
            else ADVICE.get(code, "")
        )
        failure = TeacherError(
            f"The teacher does not answer at {self.url} ({code}: "
            f"{details[:300]}).{advice}",
            retryable=code in RETRIED and not too_large,
            retry_after=_retry_after(error),
            refused=code in REFUSED or too_large,
            about_input=code in ABOUT_INPUT,
        )
        identity = self._identity
        if identity is None or identity.off:
            return failure
        stated = _stated(error)
        if stated is not None:
            failure.identified = identity.matches(stated, self.url)
        elif failure.about_input and identity.probes:
            failure.identified = self._is_proven(connection, end)
        return failure

    def _is_proven(self, connection, end):
        """Asks about the probe rows where that was not done yet."""
        if connection.proof is None:
            try:
                connection.proof = self._proof(connection, end)
            except TeacherError as error:
                if error.stranger:
                    raise
                return False  # the refused rows wait: `identified` is False
        return connection.steady


def _array(answer, number):
    """Reads one output of an answer."""
    tensor = answer.outputs[number]
    shape = list(tensor.shape)
    if answer.raw_output_contents:
        raw = answer.raw_output_contents[number]
        return from_bytes(raw, tensor.datatype, shape)
    values = getattr(tensor.contents, CONTENTS[tensor.datatype])
    dtype = NUMPY_TYPES[tensor.datatype]
    return np.array(values, dtype).reshape(shape)


def _stated(call):
    """Returns the identity in a call's initial metadata, or `None`."""
    metadata = dict(call.initial_metadata() or ())
    return metadata.get(IDENTITY_HEADER) or None


def _retry_after(error):
    """Returns the seconds that the server asks to be left alone for."""
    metadata = dict(error.trailing_metadata() or ())
    for name, unit in (("retry-after", 1.0), ("grpc-retry-pushback-ms", 1e-3)):
        text = metadata.get(name)
        if isinstance(text, str) and text.isascii() and text.isdecimal():
            return float(text[:9]) * unit
    return None


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


def _content(file, name):
    if file is None:
        return None
    try:
        with open(file, "rb") as stream:
            return stream.read()
    except OSError as error:
        raise ValueError(
            f"Expected `{name}` to be a file of PEM certificates or of a key. "
            f"Received: '{file}' ({error.strerror})."
        ) from None
