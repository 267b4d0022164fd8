"""An HTTP teacher whose every answer is wrong in one way."""

import http.server
import json

import numpy as np

from benchmarks.faults.http_thread import HttpThread

#: Answers that must fail a client's validation.
FAULTS = (
    "status_500", "status_429", "nan", "infinite", "fewer_rows",
    "more_classes", "no_output", "not_json", "text", "deep_json", "half_body",
)  # fmt: skip


class FaultyHttpServer(HttpThread):
    """Server of both HTTP protocols; a context manager.

    Args:
        classes: int.

    Attributes:
        fault: str, out of `FAULTS`; may be set at any time.
        port: int.
    """

    def __init__(self, classes):
        self.fault = FAULTS[0]
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                about = {"name": "faulty", "extensions": ["binary_tensor_data"]}
                self._send(200, json.dumps(about).encode())

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                length = self.headers.get("Inference-Header-Content-Length")
                request = json.loads(body[: int(length)] if length else body)
                v1 = "instances" in request
                rows = (
                    len(request["instances"])
                    if v1
                    else request["inputs"][0]["shape"][0]
                )
                status, content = _answer(server.fault, v1, rows, classes)
                self._send(status, content, server.fault == "half_body")

            def _send(self, status, content, half=False):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if half:
                    content = content[: len(content) // 2]
                    self.close_connection = True
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        super().__init__(Handler)


def _answer(fault, v1, rows, classes):
    """Returns the `(status, body)` of a fault."""
    if fault == "status_500":
        return 500, b'{"error": "out of memory"}'
    if fault == "status_429":
        return 429, b'{"error": "too many requests"}'
    if fault == "not_json":
        return 200, b"<html>Welcome to the hotel's network</html>"
    if fault == "deep_json":
        return 200, b"[" * 100_000
    logits = np.random.default_rng(0).normal(size=(rows, classes))
    if fault == "fewer_rows":
        logits = np.zeros((rows + 1, classes))[:-2]
    elif fault == "more_classes":
        logits = np.zeros((rows, classes + 1))
    elif fault == "nan":
        logits[-1, 0] = np.nan
    elif fault == "infinite":
        logits[-1, 0] = np.inf
    data = logits.tolist()
    if fault == "text":
        data = [["yes"] * classes] * rows
    name = "other" if fault == "no_output" else "logits"
    if v1:
        answer = {"predictions": [{name: row} for row in data]}
    else:
        answer = {
            "model_name": "teacher",
            "outputs": [
                {
                    "name": name,
                    "datatype": "FP32",
                    "shape": list(logits.shape),
                    "data": data,
                }
            ],
        }
    return 200, json.dumps(answer).encode()
