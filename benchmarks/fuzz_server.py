"""Fuzzing of the server over sockets: mutated and generated requests.

    python -m benchmarks.fuzz_server --json [--quick]

10,000 valid requests with some bytes replaced, removed, doubled or added:
whole HTTP requests (request line, headers, lengths, JSON, tensors) and gRPC
messages. Then Schemathesis generates requests from the server's OpenAPI
description. After every 100th a valid request must be answered correctly.
Counted: responses that blame the server (5xx, INTERNAL, UNKNOWN), valid
requests with a wrong answer, tracebacks in the log, and crashes.
"""

import collections
import json
import random
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import grpc
import httpx
import numpy as np

from benchmarks.harness import options, show
from benchmarks.serving import (
    FEATURES,
    binary_request,
    grpc_call,
    grpc_channel,
    grpc_request,
    make_bundle,
)
from keras_cascade.runtime import SavedModelTeacher
from keras_cascade.serving import ServerProcess

REQUESTS, QUICK = 10_000, 600
CHECK_EVERY = 100
READ_TIMEOUT = 0.1  # seconds; then the server waits for more bytes

SCHEMATHESIS = """
import collections, json, sys
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
url, examples = sys.argv[1], int(sys.argv[2])
schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
statuses = collections.Counter()
for operation in schema.get_all_operations():
    @settings(max_examples=examples, deadline=None, database=None,
              suppress_health_check=list(HealthCheck),
              phases=[Phase.generate])
    @given(case=operation.ok().as_strategy())
    def run(case):
        statuses[case.call(base_url=url, timeout=30).status_code] += 1
    run()
print(json.dumps(statuses))
"""


def fuzz_server(quick=False):
    """Fuzzes a server; returns a dict of counts."""
    requests = QUICK if quick else REQUESTS
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path, x = make_bundle(folder / "bundle", 16)
        log = folder / "log"
        with ServerProcess(path, log) as server:
            fuzz = Fuzz(server, path, x[:1])
            fuzz.run(requests)
            generated = schemathesis(server, 10 if quick else 100)
            fuzz.check()
            result = {
                "fuzzed_requests": requests + sum(generated.values()),
                "statuses": dict(sorted(fuzz.statuses.items())),
                "schemathesis_statuses": generated,
                "blamed_on_server": fuzz.blamed
                + sum(n for code, n in generated.items() if code >= "500"),
                "wrong_answers": fuzz.wrong,
                "crashes": int(server._process.poll() is not None),
            }
        result["tracebacks"] = log.read_text(errors="replace").count(
            "Traceback"
        )
    return result


def main():
    """Runs the benchmark."""
    arguments = options(__doc__)
    show(fuzz_server(arguments.quick), arguments.json)


class Fuzz:
    """Sends mutated requests and counts the statuses of the responses."""

    def __init__(self, server, path, x):
        self.statuses, self.blamed, self.wrong = collections.Counter(), 0, 0
        self._rng = random.Random(0)
        self._server = server
        self._x = x
        teacher = SavedModelTeacher(path / "teacher" / "1")
        self._expected = teacher.logits({"input": x})
        self._call = grpc_call(grpc_channel(server))
        self._seeds = seeds(x)

    def run(self, requests):
        """Sends three of four requests over HTTP, one over gRPC."""
        for number in range(requests):
            if number % 4:
                status = self._http(
                    self._mutated(self._rng.choice(self._seeds))
                )
                self.blamed += status.startswith("http 5")
            else:
                status = self._grpc(self._mutated(grpc_request(self._x)))
                self.blamed += status in ("grpc INTERNAL", "grpc UNKNOWN")
            self.statuses[status] += 1
            if number % CHECK_EVERY == 0:
                self.check()

    def check(self):
        """Sends a valid request and counts a wrong answer."""
        answer = httpx.post(
            f"{self._server.url}:predict",
            json={"instances": self._x.tolist()},
            trust_env=False,
            timeout=30,
        )
        logits = answer.json().get("predictions", np.nan)
        self.wrong += not np.allclose(logits, self._expected, atol=1e-4)

    def _mutated(self, request):
        """Mutates bytes, mostly of the head: tensor bytes are all alike."""
        rng = self._rng
        for _ in range(rng.choice((1, 1, 2, 4))):
            reach = min(len(request), rng.choice((40, 300, len(request))))
            at = rng.randrange(reach + 1)
            end = min(len(request), at + rng.choice((0, 1, 1, 4, 30)))
            new = rng.choice(
                (b"", rng.randbytes(end - at), request[at:end] * 2,
                 rng.randbytes(3), b"9" * 20, b"[" * 50, b"\r\n", b"-", b"0")
            )  # fmt: skip
            request = request[:at] + new + request[end:]
        return request

    def _http(self, request):
        host, port = self._server.url.split("/")[2].split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.settimeout(READ_TIMEOUT)
            try:
                connection.sendall(request)
                first = connection.recv(4096)
            except TimeoutError:
                first = self._response_at_end(connection)
            except ConnectionError:
                return "http connection reset"
        parts = first.split(b" ", 2)
        return (
            f"http {parts[1].decode()}"
            if len(parts) > 2
            else "http waited for more"
        )

    @staticmethod
    def _response_at_end(connection):
        """Ends the request and returns the response to it."""
        connection.settimeout(30)
        try:
            connection.shutdown(socket.SHUT_WR)
            return connection.recv(4096)
        except ConnectionError:
            return b""

    def _grpc(self, request):
        try:
            self._call(request, timeout=30)
        except grpc.RpcError as error:
            return f"grpc {error.code().name}"
        return "grpc OK"


def seeds(x):
    """Returns valid HTTP requests as bytes."""
    length, binary = binary_request(x)
    v1 = json.dumps({"instances": x.tolist()}).encode()
    v2 = {"name": "input", "datatype": "FP32", "shape": [1, FEATURES],
          "data": x.ravel().tolist()}  # fmt: skip
    v2 = json.dumps({"id": "1", "inputs": [v2]}).encode()
    infer = "/v2/models/teacher/infer"
    head = f"Inference-Header-Content-Length: {length}\r\n"
    return [
        http_request("/v1/models/teacher:predict", v1),
        http_request(infer, v2),
        http_request(infer, binary, head),
        http_request(infer, binary, head),
    ]


def http_request(path, body, headers=""):
    """Returns an HTTP request as bytes."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Length: {len(body)}\r\n{headers}\r\n"
    ).encode() + body


def schemathesis(server, examples):
    """Returns the counts of statuses of generated requests."""
    base = server.url.rpartition("/v1/")[0]
    done = subprocess.run(
        [sys.executable, "-c", SCHEMATHESIS, base, str(examples)],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(
            "Schemathesis could not run. Install it with `pip install "
            f"schemathesis`. Its last words: {done.stderr[-500:]}"
        )
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
