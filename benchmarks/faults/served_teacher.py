"""Teacher servers of all protocols, with a teacher that can be exchanged."""

import contextlib
import http.server
import json
import socket
import threading
from concurrent import futures

import grpc
import numpy as np

from benchmarks.faults.http_thread import QuietServer
from keras_cascade.runtime.teachers.grpc_messages import SERVICE, messages
from keras_cascade.runtime.teachers.remote_teacher import (
    IDENTITY_HEADER,
    IDENTITY_PARAMETER,
)
from keras_cascade.runtime.teachers.v2_tensors import V2_TYPES, from_bytes

LENGTH = "Inference-Header-Content-Length"
#: One URL of each protocol, and further arguments of `EdgeCascade.load`.
PROTOCOLS = {
    "v1": ("http://127.0.0.1:{http}/v1/models/teacher", {}),
    "v2": ("http://127.0.0.1:{http}/v2/models/teacher", {"binary": False}),
    "v2_binary": (
        "http://127.0.0.1:{http}/v2/models/teacher",
        {"binary": True},
    ),
    "grpc": ("grpc://127.0.0.1:{grpc}/teacher", {}),
}


class ServedTeacher:
    """HTTP and gRPC server of one teacher; a context manager.

    Args:
        logits: function from a dict of inputs to `(rows, classes)`.
        identity: str to state in each answer, or `None`: it states none, as
            TensorFlow Serving, Triton and KServe. Defaults to `None`.
        name: str, the input's name. Defaults to `"input"`.

    Attributes:
        refuse: function from a dict of inputs to bool: such inputs are
            answered with 400. Defaults to `None`.
        has_status: bool, whether the model's status is there over HTTP.
        requests: list of the number of rows of each request.
        connections: int, HTTP connections so far.
        http: int, the HTTP port.
        grpc: int, the gRPC port.
    """

    def __init__(self, logits, identity=None, name="input"):
        self.exchange(logits, identity, "1")
        self.refuse, self.has_status = None, True
        self.requests, self.connections = [], 0
        self._name = name
        self._sockets = set()
        self._http = self._http_server()
        self.http = self._http.server_address[1]
        self._thread = threading.Thread(
            target=self._http.serve_forever, args=(0.01,)
        )
        handlers = grpc.method_handlers_generic_handler(
            SERVICE,
            {
                name: grpc.unary_unary_rpc_method_handler(
                    getattr(self, f"_{name}"),
                    getattr(messages(), f"{name}Request").FromString,
                    lambda answer: answer.SerializeToString(),
                )
                for name in ("ModelInfer", "ModelReady")
            },
        )
        self._grpc = grpc.server(
            futures.ThreadPoolExecutor(8),
            handlers=[handlers],
            options=[("grpc.so_reuseport", 0)],
        )
        self.grpc = self._grpc.add_insecure_port("127.0.0.1:0")

    def __enter__(self):
        self._thread.start()
        self._grpc.start()
        return self

    def __exit__(self, *_):
        self.drop_connections()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        self._grpc.stop(0).wait()

    def url(self, protocol):
        """Returns the URL of one of `PROTOCOLS`."""
        return PROTOCOLS[protocol][0].format(http=self.http, grpc=self.grpc)

    def drop_connections(self):
        """Closes every HTTP connection, as a restart would."""
        for one in list(self._sockets):
            with contextlib.suppress(OSError):  # closed already
                one.shutdown(socket.SHUT_RDWR)

    def exchange(self, logits, identity, version):
        """Exchanges the teacher: each answer is wholly one's or the other's."""
        self._teacher = (logits, identity, version)

    def answer(self, inputs, logits):
        """Returns the logits, or `None` of inputs that are refused."""
        self.requests.append(len(inputs[self._name]))
        if self.refuse is not None and self.refuse(inputs):
            return None
        return np.asarray(logits(inputs), "<f4")

    @property
    def logits(self):
        """Function from a dict of inputs to the logits."""
        return self._teacher[0]

    @logits.setter
    def logits(self, logits):
        self.exchange(logits, *self._teacher[1:])

    @property
    def identity(self):
        """Identity to state, or `None`."""
        return self._teacher[1]

    @identity.setter
    def identity(self, identity):
        self.exchange(self._teacher[0], identity, self._teacher[2])

    @property
    def version(self):
        """Version of the model to state."""
        return self._teacher[2]

    @version.setter
    def version(self, version):
        self.exchange(*self._teacher[:2], version)

    def _ModelReady(self, request, context):  # noqa: N802
        self._state(context, self.identity)
        return messages().ModelReadyResponse(ready=True)

    def _ModelInfer(self, request, context):  # noqa: N802
        # Read once: it may be exchanged meanwhile.
        logits, identity, version = self._teacher
        self._state(context, identity)
        tensor = request.inputs[0]
        logits = self.answer(
            {
                tensor.name: from_bytes(
                    request.raw_input_contents[0],
                    tensor.datatype,
                    list(tensor.shape),
                )
            },
            logits,
        )
        if logits is None:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not these")
        answer = messages().ModelInferResponse(
            id=request.id, model_version=version
        )
        if identity is not None and hasattr(answer, "parameters"):
            answer.parameters[IDENTITY_PARAMETER].string_param = identity
        answer.outputs.add(
            name="logits", datatype=V2_TYPES["float32"], shape=logits.shape
        )
        answer.raw_output_contents.append(logits.tobytes())
        return answer

    def _state(self, context, identity):
        if identity is not None:
            context.send_initial_metadata([(IDENTITY_HEADER, identity)])

    def _http_server(self):
        teacher = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self):
                super().setup()
                teacher.connections += 1
                teacher._sockets.add(self.connection)

            def finish(self):
                teacher._sockets.discard(self.connection)
                super().finish()

            def do_GET(self):
                self.teacher = teacher._teacher
                version = self.teacher[2]
                if not teacher.has_status:
                    self._send(404, {"error": "no such path"})
                elif self.path == "/v2":
                    self._send(200, {"extensions": ["binary_tensor_data"]})
                elif self.path.startswith("/v1"):
                    state = {"version": version, "state": "AVAILABLE"}
                    self._send(200, {"model_version_status": [state]})
                else:
                    self._send(200, {"versions": [version]})

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                # Read once: it may be exchanged meanwhile.
                self.teacher = teacher._teacher
                if self.path.startswith("/v1"):
                    rows = np.array(json.loads(body)["instances"], "float32")
                    logits = teacher.answer(
                        {teacher._name: rows}, self.teacher[0]
                    )
                    if logits is None:
                        self._send(400, {"error": "not these"})
                    else:
                        self._send(200, {"predictions": logits.tolist()})
                else:
                    self._infer(body)

            def _infer(self, body):
                compute, identity, version = self.teacher
                end = int(self.headers.get(LENGTH, len(body)))
                request = json.loads(body[:end])
                tensor = request["inputs"][0]
                if "data" in tensor:
                    rows = np.array(tensor["data"], "float32")
                    rows = rows.reshape(tensor["shape"])
                else:
                    rows = from_bytes(
                        body[end:], tensor["datatype"], tensor["shape"]
                    )
                logits = teacher.answer({tensor["name"]: rows}, compute)
                if logits is None:
                    self._send(400, {"error": "not these"})
                    return
                output = {
                    "name": "logits",
                    "shape": list(logits.shape),
                    "datatype": "FP32",
                }
                raw = b""
                if end < len(body):
                    raw = logits.tobytes()
                    output["parameters"] = {"binary_data_size": len(raw)}
                else:
                    output["data"] = logits.ravel().tolist()
                answer = {
                    "id": request["id"],
                    "model_version": version,
                    "outputs": [output],
                }
                if identity is not None:
                    answer["parameters"] = {IDENTITY_PARAMETER: identity}
                self._send(200, answer, raw)

            def _send(self, status, content, raw=b""):
                head = json.dumps(content).encode()
                self.send_response(status)
                identity = self.teacher[1]
                if identity is not None:
                    self.send_header(IDENTITY_HEADER, identity)
                    request_id = self.headers.get("x-request-id")
                    if request_id is not None:
                        self.send_header("x-request-id", request_id)
                if raw:
                    self.send_header(LENGTH, str(len(head)))
                self.send_header("Content-Length", str(len(head + raw)))
                self.end_headers()
                self.wfile.write(head + raw)

            def log_message(self, *_):
                pass

        return QuietServer(("127.0.0.1", 0), Handler)


def strangers(logits, classes):
    """Teachers of the same inputs that are not this one.

    Args:
        logits: function from a dict of inputs to `(rows, classes)`.
        classes: int.

    Returns:
        Dict of name to function.
    """
    order = np.roll(np.arange(classes), 1)
    weights = np.random.default_rng(7)

    def others(inputs):
        x = np.concatenate(
            [np.reshape(one, (len(one), -1)) for one in inputs.values()], axis=1
        )
        return x @ matrices.setdefault(
            x.shape[1], weights.normal(size=(x.shape[1], classes))
        )

    matrices: dict = {}
    return {
        "permuted_classes": lambda inputs: np.asarray(logits(inputs))[:, order],
        "other_weights": others,
        "other_class_count": lambda inputs: np.concatenate(
            [np.asarray(logits(inputs)), np.zeros((_rows(inputs), 1))], axis=1
        ),
    }


def _rows(inputs):
    return len(next(iter(inputs.values())))
