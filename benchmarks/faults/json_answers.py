"""Memory and time of a device under JSON answers made to exhaust it.

    python -m benchmarks.faults.json_answers --json [--quick]

A teacher's server that answers every request with brackets, strings, numbers
or keys, of 256 KB, 1 MB, 4 MB and 31 MB (the limit is 32), over both forms of
HTTP, with a length and in chunks. A process of its own asks for 1 and for 2,000
rows, with the limit of an answer that follows from them and with the largest.

`json_device_memory_ratio`: the largest growth of the device's resident memory
during an answer of at least 1 MB, over the size of the answer.
`json_device_stall_seconds`: the longest that another thread of the device,
such as an event loop's, waited for its turn meanwhile.
`json_device_labels`: answers that were taken for logits, which must be 0.
"""

import collections
import http.server
import itertools
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from benchmarks.faults.http_thread import HttpThread
from benchmarks.faults.json_bodies import MEBIBYTE, bodies
from benchmarks.harness import options, show
from keras_cascade.errors import TeacherError
from keras_cascade.runtime.teachers.remote_teacher import MAX_BYTES

SIZES = (2**18, MEBIBYTE, 4 * MEBIBYTE, 31 * MEBIBYTE)
QUICK = SIZES[:2]
ROWS = (1, 2000)
LIMITS = (None, MAX_BYTES)
CLASSES = 10
CHUNK = 2**16
TICK_SECONDS = 0.005
STARTS = {
    "v1": (b'{"instances"', b'{"predictions"'),
    "v2": (b'{"inputs":[{"name":"input"', b'{"outputs":[{"name":"logits"'),
}


def measure(quick):
    """Answers with every body; returns a dict of the keys above."""
    results = []
    with HostileServer() as server:
        process = subprocess.Popen(
            [sys.executable, "-m", __spec__.name, "--device", str(server.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            for size in QUICK if quick else SIZES:
                for name, protocol, body in answers(size):
                    for chunked in (False, True):
                        server.answer, server.chunked = body, chunked
                        for rows, limit in itertools.product(ROWS, LIMITS):
                            asked = f"{protocol} {rows} {limit or 0}"
                            process.stdin.write(f"{asked}\n")
                            process.stdin.flush()
                            found = json.loads(process.stdout.readline())
                            title = f"{asked}, {name}, {size}"
                            results.append((title, len(body), *found))
        finally:
            process.stdin.close()
            process.wait(30)
            process.stdout.close()
    large = [one for one in results if one[1] > MEBIBYTE / 2]
    memory = max(large, key=lambda one: one[2] / one[1])
    stall = max(results, key=lambda one: one[3])
    outcomes = collections.Counter(one[4] for one in results)
    return {
        "json_device_memory_ratio": memory[2] / memory[1],
        "json_device_stall_seconds": stall[3],
        "json_device_labels": outcomes["labels"],
        "json_device_answers": len(results),
        "json_device_outcomes": dict(outcomes),
        "json_device_worst": {"memory": memory[0], "stall": stall[0]},
    }


def answers(size):
    """Yields names, protocols and answers of about `size` bytes."""
    for kind in ("numbers", "texts"):
        for name, route, body in bodies(size, kind):
            protocol = route[1:3]
            yield f"{name}, {kind}", protocol, body.replace(*STARTS[protocol])


class HostileServer(HttpThread):
    """Server that answers every POST with the same body; a context manager.

    Attributes:
        answer: bytes.
        chunked: bool, whether without a length.
        port: int.
    """

    def __init__(self):
        self.answer, self.chunked = b"", False
        hostile = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self._send(b'{"name":"hostile","extensions":[]}', False)

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                self._send(hostile.answer, hostile.chunked)

            def _send(self, content, chunked):
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                if not chunked:
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)
                    return
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for start in range(0, len(content), CHUNK):
                    part = content[start : start + CHUNK]
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                self.wfile.write(b"0\r\n\r\n")

            def log_message(self, *_):
                pass

        super().__init__(Handler)


def device(port):
    """Asks as standard input says; prints growth, stall and outcome."""
    from keras_cascade.runtime.teachers.rest_teacher import RestTeacher
    from keras_cascade.runtime.teachers.v2_http_teacher import V2HttpTeacher

    base = f"http://127.0.0.1:{port}"
    teachers = {}
    for limit in LIMITS:
        arguments = {"timeout": 60, "max_response_bytes": limit}
        teachers["v1", limit or 0] = RestTeacher(
            f"{base}/v1/models/teacher", CLASSES, **arguments
        )
        teachers["v2", limit or 0] = V2HttpTeacher(
            f"{base}/v2/models/teacher", CLASSES, binary=False, **arguments
        )
    for line in sys.stdin:
        protocol, rows, limit = line.split()
        teacher = teachers[protocol, int(limit)]
        x = {"input": np.zeros((int(rows), 4), "float32")}
        before = _memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        with OtherThread() as other:
            try:
                teacher.logits(x)
                outcome = "labels"
            except TeacherError as error:
                outcome = type(error).__name__
        growth = _memory("VmHWM") - before
        print(json.dumps([growth, other.longest, outcome]), flush=True)


class OtherThread:
    """Thread that wants a turn every few milliseconds; a context manager.

    Attributes:
        longest: float, seconds that it waited for one at most.
    """

    def __init__(self):
        self.longest = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()

    def _run(self):
        start = time.perf_counter()
        while not self._end.wait(TICK_SECONDS):
            now = time.perf_counter()
            self.longest = max(self.longest, now - start - TICK_SECONDS)
            start = now


def _memory(name):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"There is no {name} of this process.")


def main():
    """Runs the benchmark, or the device of it."""
    if sys.argv[1:2] == ["--device"]:
        device(int(sys.argv[2]))
        return
    arguments = options(__doc__)
    show(measure(arguments.quick), arguments.json)


if __name__ == "__main__":
    main()
