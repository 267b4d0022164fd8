"""Surplus, late, reordered and duplicated answers, on every protocol.

    python -m benchmarks.faults.answers --json [--quick]

Servers answer most requests as they should, and some in one of these ways:

- `surplus`: the answer twice, in one piece
- `duplicated`: once more, a moment later
- `late`: a wrong answer of before once more, while the client is idle or has
  sent its next request
- `reordered`: the answer of an earlier request first, then the right one; over
  gRPC, where the order is not the match, instead of it

Several threads share a teacher. Each row has a number, which its logits must
state. `answers`: requests that were answered; `mislabelled_answers`: those
whose rows got the logits of other rows; `errors`: calls that failed.
"""

import collections
import contextlib
import itertools
import json
import random
import socket
import threading
import time
from concurrent import futures

import grpc
import numpy as np

from benchmarks.harness import options, show
from keras_cascade.runtime import TeacherError, teacher_at
from keras_cascade.runtime.teachers.grpc_messages import SERVICE, messages
from keras_cascade.runtime.teachers.teacher_caller import TeacherCaller

ANSWERS, QUICK = 10_000, 800
THREADS = 4
CLASSES = 3
FAULTS = ("surplus", "duplicated", "late", "reordered")
FAULTY = 0.2  # of the requests
DELAY = 0.003  # seconds at most, until a late answer
#: Protocol to whether the server states ids: version 1 of it has none.
KINDS = ("v1", "v1_with_ids", "v2", "v2_binary", "v2_without_ids", "grpc")
LENGTH = b"inference-header-content-length"


def logits_of(rows):
    """Logits that state each row's number."""
    rows = np.asarray(rows, "float64").reshape(len(rows), -1)
    return np.stack([rows[:, 0], rows[:, 0] + 1, 0 * rows[:, 0]], axis=1)


class FaultyAnswers:
    """HTTP server with answers too many; a context manager.

    Args:
        ids: bool, whether it states the requests' ids.
        faults: tuple of the faults to draw from. Defaults to `FAULTS`.
        share: float, of requests with a fault. Defaults to `0.2`.
        seed: int. Defaults to `0`.

    Attributes:
        port: int.
        counts: `Counter` of faults.
    """

    def __init__(self, ids, faults=FAULTS, share=FAULTY, seed=0):
        self._ids, self._faults, self._share = ids, faults, share
        self._dice = random.Random(seed)
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listening.getsockname()[1]
        self.counts = collections.Counter()
        self._open = set()

    def __enter__(self):
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for connection in list(self._open):
            _shut(connection)

    def _serve(self):
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:  # closed
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(
                target=self._talk, args=(connection,), daemon=True
            ).start()

    def _talk(self, connection):
        self._open.add(connection)
        last, lock = b"", threading.Lock()

        def send(*parts):
            with lock:
                connection.sendall(b"".join(parts))

        def send_later(answer):
            time.sleep(self._dice.random() * DELAY)
            with contextlib.suppress(OSError):  # the client has dropped it
                send(answer)

        try:
            while True:
                method, path, headers, body = _request(connection)
                if method == b"GET":
                    send(self._status(path, headers))
                    continue
                answer = self._answer(path, headers, body)
                fault = None
                if self._dice.random() < self._share:
                    fault = self._dice.choice(self._faults)
                    self.counts[fault] += 1
                if fault == "surplus":
                    send(answer, answer)
                elif fault == "reordered" and last:
                    send(last, answer)
                else:
                    send(answer)
                    if fault in ("duplicated", "late"):
                        extra = last if fault == "late" and last else answer
                        threading.Thread(
                            target=send_later, args=(extra,), daemon=True
                        ).start()
                last = answer
        except OSError:
            pass  # the client is gone
        finally:
            self._open.discard(connection)
            _shut(connection)
            connection.close()

    def _status(self, path, headers):
        content = {"extensions": ["binary_tensor_data"]}
        if path.startswith(b"/v1"):
            state = {"version": "1", "state": "AVAILABLE"}
            content = {"model_version_status": [state]}
        return self._raw(headers, json.dumps(content).encode())

    def _answer(self, path, headers, body):
        if path.startswith(b"/v1"):
            rows = json.loads(body)["instances"]
            content = {"predictions": logits_of(rows).tolist()}
            return self._raw(headers, json.dumps(content).encode())
        end = int(headers.get(LENGTH, len(body)))
        request = json.loads(body[:end])
        tensor = request["inputs"][0]
        rows = tensor.get("data")
        if rows is None:
            rows = np.frombuffer(body[end:], "<f4")
        rows = np.reshape(rows, tensor["shape"])
        logits = logits_of(rows).astype("<f4")
        output = {"name": "logits", "shape": logits.shape, "datatype": "FP32"}
        raw = b""
        if end < len(body):
            raw = logits.tobytes()
            output["parameters"] = {"binary_data_size": len(raw)}
        else:
            output["data"] = logits.ravel().tolist()
        content = {"outputs": [output]}
        if self._ids:
            content["id"] = request["id"]
        return self._raw(headers, json.dumps(content).encode(), raw)

    def _raw(self, headers, head, tensors=b""):
        lines = [b"HTTP/1.1 200 OK"]
        if self._ids and b"x-request-id" in headers:
            lines.append(b"x-request-id: " + headers[b"x-request-id"])
        if tensors:
            lines.append(LENGTH + b": %d" % len(head))
        lines.append(b"content-length: %d" % len(head + tensors))
        return b"\r\n".join([*lines, b"", head + tensors])


def _request(connection):
    raw = b""
    while b"\r\n\r\n" not in raw:
        raw += _received(connection)
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    method, path, _ = first.split(b" ")
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(b":") for line in lines)
    }
    while len(body) < int(headers.get(b"content-length", 0)):
        body += _received(connection)
    return method, path, headers, body


def _received(connection):
    content = connection.recv(65536)
    if not content:
        raise ConnectionError("The client is gone.")
    return content


def _shut(connection):
    with contextlib.suppress(OSError):  # closed already
        connection.shutdown(socket.SHUT_RDWR)


class FaultyGrpcAnswers:
    """gRPC server that sometimes sends the answer to an earlier request.

    Arguments and attributes as of `FaultyAnswers`; it always states ids.
    """

    def __init__(self, share=FAULTY, seed=0):
        self._dice, self._share = random.Random(seed), share
        self._last = None
        self.counts = collections.Counter()
        handler = grpc.unary_unary_rpc_method_handler(
            self._infer,
            messages().ModelInferRequest.FromString,
            lambda answer: answer.SerializeToString(),
        )
        self._server = grpc.server(
            futures.ThreadPoolExecutor(8),
            handlers=[
                grpc.method_handlers_generic_handler(
                    SERVICE, {"ModelInfer": handler}
                )
            ],
        )
        self.port = self._server.add_insecure_port("127.0.0.1:0")

    def __enter__(self):
        self._server.start()
        return self

    def __exit__(self, *_):
        self._server.stop(0).wait()

    def _infer(self, request, context):
        rows = np.frombuffer(request.raw_input_contents[0], "<f4")
        logits = logits_of(rows.reshape(list(request.inputs[0].shape)))
        answer = messages().ModelInferResponse(id=request.id)
        answer.outputs.add(name="logits", datatype="FP32", shape=logits.shape)
        answer.raw_output_contents.append(logits.astype("<f4").tobytes())
        last, self._last = self._last, answer
        if last is not None and self._dice.random() < self._share:
            self.counts["reordered"] += 1
            return last
        return answer


def measure_kind(kind, answers):
    """Asks one kind of server; returns its counts as a dict."""
    if kind == "grpc":
        server = FaultyGrpcAnswers()
        url, arguments = "grpc://127.0.0.1:{}/teacher", {}
    else:
        server = FaultyAnswers(kind in ("v1_with_ids", "v2", "v2_binary"))
        url = f"http://127.0.0.1:{{}}/{kind[:2]}/models/teacher"
        arguments = {} if kind[:2] == "v1" else {"binary": "binary" in kind}
    counts, lock = collections.Counter(), threading.Lock()
    numbers = itertools.count(1)
    with server:
        teacher = teacher_at(url.format(server.port), CLASSES, **arguments)
        caller = TeacherCaller(
            teacher, CLASSES, failures_to_open=10**9, sleep=lambda _: None
        )

        def work():
            while True:
                number = next(numbers)
                with lock:
                    if counts["answers"] >= answers or number > 20 * answers:
                        return
                rows = np.full((1 + number % 3, 2), number, "float32")
                outcome = "errors"
                try:
                    logits = caller.logits({"input": rows})
                except TeacherError:
                    pass
                else:
                    outcome = "answers"
                    right = np.array_equal(logits, logits_of(rows))
                with lock:
                    counts[outcome] += 1
                    if outcome == "answers" and not right:
                        counts["mislabelled_answers"] += 1
                if number % 7 == 0:
                    time.sleep(DELAY)  # idle, and late answers come

        threads = [threading.Thread(target=work) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        caller.close()
        teacher.close()
    keys = ("answers", "mislabelled_answers", "errors")
    return {key: counts[key] for key in keys} | {"faults": dict(server.counts)}


def measure(quick: bool) -> dict:
    """Runs the benchmark; returns its results as a dict."""
    share = -(-(QUICK if quick else ANSWERS) // len(KINDS))
    found = {kind: measure_kind(kind, share) for kind in KINDS}
    return {
        "answers": sum(one["answers"] for one in found.values()),
        "mislabelled_answers": sum(
            one["mislabelled_answers"] for one in found.values()
        ),
        "answers_by_protocol": found,
    }


def main():
    """Runs the benchmark alone."""
    chosen = options(__doc__)
    show(measure(chosen.quick), chosen.json)


if __name__ == "__main__":
    main()
