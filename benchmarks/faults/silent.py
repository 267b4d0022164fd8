"""A well-behaved client beside 2,000 that connect and say nothing.

    python -m benchmarks.faults.silent --json [--quick]

A server of 4,096, then of 1,024 file descriptors, with a token. 2,000
connections without one send half a head, half a body, a health check and
then nothing, nothing at all, or, to gRPC's port, the beginning of HTTP/2 or
half a call; each that the server closes comes back after 5 to 15 seconds.
Meanwhile a client with a token asks over HTTP, on a kept connection and on
new ones, and over gRPC, and, in turn, a second server of the same kind that
has no silent connections: what is usual on this machine at this time.
`silent_p99_ratio`: 99th percentile of its request times over those of the
second server, the worst of all kinds and ways; a request without an answer
counts with its timeout, and among `silent_failures`.
`silent_log_bytes_per_second`: growth of the server's log, with the lines of
the client's own requests, beside the worst kind.

`grpc_hostile_mib`: growth of the server's resident memory while 200
connections without a token each send 16 MiB over gRPC, as far as they may.
"""

import collections
import contextlib
import json
import select
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import grpc
import numpy as np
import psutil

from benchmarks.faults.silent_clients import frame, half_message
from benchmarks.harness import options, show
from benchmarks.serving import grpc_request, make_bundle
from keras_cascade.runtime.teachers.grpc_messages import SERVICE
from keras_cascade.serving import ServerProcess

CONNECTIONS = 2000
KINDS = ("head", "body", "idle", "nothing", "grpc", "grpc_call")
TOKEN = "a-token-of-some-length"
TIMEOUT = 5.0
GIVE_UP = 12  # failures beside one kind, after which the next kind begins
HOSTILE, HOSTILE_BYTES = 200, 16 * 2**20


class LimitedServer(ServerProcess):
    """Server process with a limit of file descriptors."""

    descriptors = 4096

    def _command(self, ready_file):
        return [
            "/bin/sh", "-c", 'ulimit -n "$0" && exec "$@"',
            str(self.descriptors), *super()._command(ready_file),
        ]  # fmt: skip


class Client:
    """Asks over HTTP and gRPC, and measures.

    Args:
        server: `ServerProcess`.
        x: one row.
    """

    def __init__(self, server, x):
        self._address = ("127.0.0.1", server.port)
        body = json.dumps({"instances": x.tolist()}).encode()
        self._request = (
            "POST /v1/models/teacher:predict HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {TOKEN}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        self._message = grpc_request(x)
        self._grpc_address = server.grpc_url.split("/")[2]
        self._metadata = [("authorization", f"Bearer {TOKEN}")]
        self._connection = None
        self._channel = grpc.insecure_channel(self._grpc_address)
        self.failures = []

    def close(self):
        """Closes the connections."""
        self._channel.close()
        if self._connection is not None:
            self._connection.close()

    def ask(self, number):
        """Asks in each way once; returns dict of way to seconds."""
        seconds = {
            "http": self._timed(self._kept),
            "grpc": self._timed(self._grpc),
            "http_new": self._timed(self._new),
        }
        if number % 4 == 0:
            seconds["grpc_new"] = self._timed(self._grpc_new)
        return seconds

    def _timed(self, ask):
        start = time.perf_counter()
        try:
            ask()
        except (OSError, grpc.RpcError) as error:
            self.failures.append(f"{ask.__name__}: {error!r}"[:200])
            self._connection = None
            return TIMEOUT
        return time.perf_counter() - start

    def _kept(self):
        if self._connection is None:
            self._connection = self._connect()
        self._exchange(self._connection)

    def _new(self):
        with self._connect() as connection:
            self._exchange(connection)

    def _connect(self):
        return socket.create_connection(self._address, TIMEOUT)

    def _exchange(self, connection):
        connection.sendall(self._request)
        answer = b""
        while b"\r\n\r\n" not in answer or not answer.endswith(b"]]}"):
            received = connection.recv(65536)
            if not received:
                raise ConnectionError(f"closed after {answer[:100]!r}")
            answer += received
            if b"\r\n\r\n" in answer and b" 200 " not in answer[:20]:
                raise ConnectionError(f"received {answer[:100]!r}")

    def _grpc(self):
        self._ask(self._channel)

    def _grpc_new(self):
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(self._grpc_address, options) as channel:
            self._ask(channel)

    def _ask(self, channel):
        channel.unary_unary(f"/{SERVICE}/ModelInfer")(
            self._message, metadata=self._metadata, timeout=TIMEOUT
        )


@contextlib.contextmanager
def silent_clients(port, kind, count):
    """Runs silent clients in a process of their own."""
    process = subprocess.Popen(
        [
            sys.executable, "-m", "benchmarks.faults.silent_clients",
            "127.0.0.1", str(port), kind, str(count),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        process.stdout.readline()
        yield
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


def measure(quick=False):
    """Returns the figures, as a dict."""
    requests = 100 if quick else 400
    kinds = KINDS[:2] if quick else KINDS
    ratios, failures, log_rates = {}, [], {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path, x = make_bundle(folder / "bundle", 16)
        tokens = folder / "tokens"
        tokens.write_text(TOKEN)
        options = ["--token-file", str(tokens)]
        usual = ServerProcess(path, folder / "usual.log", options=options)
        with usual, contextlib.closing(Client(usual, x[:1])) as control:
            for descriptors in (4096, 1024):
                server = LimitedServer(
                    path, folder / f"{descriptors}.log", options=options
                )
                server.descriptors = descriptors
                with (
                    server,
                    contextlib.closing(Client(server, x[:1])) as client,
                ):
                    p99s(client, control, 20)
                    for kind in kinds:
                        name = f"{descriptors} {kind}"
                        ratio, log_rates[name] = beside(
                            server, client, control, kind, requests
                        )
                        for way, value in ratio.items():
                            ratios[f"{name} {way}"] = value
                        failures += [f"{name} {one}" for one in client.failures]
                        client.failures.clear()
            growth = hostile_growth(usual)
    worst = sorted(ratios.items(), key=lambda item: -item[1])
    return {
        "silent_p99_ratio": worst[0][1],
        "silent_failures": len(failures),
        "silent_log_bytes_per_second": max(log_rates.values()),
        "silent_worst": dict(worst[:6]),
        "silent_first_failures": failures[:5],
        "silent_control_failures": len(control.failures),
        "grpc_hostile_mib": growth,
    }


def p99s(client, control, requests):
    """Returns, of both clients, dict of way to 99th percentile in seconds."""
    times = {one: collections.defaultdict(list) for one in (client, control)}
    for number in range(requests):
        if len(client.failures) >= GIVE_UP:
            break
        for one, ways in times.items():
            for way, seconds in one.ask(number).items():
                ways[way].append(seconds)
    return [
        {way: float(np.percentile(values, 99)) for way, values in ways.items()}
        for ways in times.values()
    ]


def beside(server, client, control, kind, requests):
    """Returns ratios of p99, and log bytes per second, beside silent ones."""
    port = server.port
    if kind.startswith("grpc"):
        port = int(server.grpc_url.split("/")[2].rpartition(":")[2])
    before, start = server.log_file.stat().st_size, time.monotonic()
    with silent_clients(port, kind, CONNECTIONS):
        times, usual = p99s(client, control, requests)
        written = server.log_file.stat().st_size - before
        rate = written / (time.monotonic() - start)
    return {way: times[way] / usual[way] for way in times}, rate


def hostile_growth(server):
    """Returns MiB of memory that clients without a token make gRPC hold."""
    process = psutil.Process(server.pid)
    host, port = server.grpc_url.split("/")[2].split(":")
    before = process.memory_info().rss
    clients = []
    for _ in range(HOSTILE):
        connection = socket.create_connection((host, int(port)))
        connection.setblocking(False)
        clients.append(Hostile(connection))
    largest, end = before, time.monotonic() + 20
    while clients and time.monotonic() < end:
        largest = max(largest, process.memory_info().rss)
        ready, _, _ = select.select(clients, [], [], 0.05)
        for one in ready:
            one.receive()
        clients = [one for one in clients if one.send()]
    for one in clients:
        one.close()
    return (largest - before) / 2**20


class Hostile:
    """Sends a message over gRPC as far as the server's windows allow.

    Args:
        connection: socket.
    """

    def __init__(self, connection):
        self._connection = connection
        self._received = b""
        self._windows = {0: 65535 - 1005, 1: 65535 - 1005}
        self._left = HOSTILE_BYTES
        self._ended = False
        connection.send(half_message(size=HOSTILE_BYTES + 1000))

    def fileno(self):
        """Returns the socket's descriptor."""
        return self._connection.fileno()

    def close(self):
        """Closes the connection."""
        self._connection.close()

    def receive(self):
        """Reads frames: windows, pings, resets."""
        try:
            content = self._connection.recv(65536)
        except OSError:
            content = b""
        self._ended = self._ended or not content
        self._received += content
        while len(self._received) >= 9:
            size = int.from_bytes(self._received[:3], "big")
            if len(self._received) < 9 + size:
                return
            kind, flags = self._received[3:5]
            stream = int.from_bytes(self._received[5:9], "big")
            content = self._received[9 : 9 + size]
            self._received = self._received[9 + size :]
            if kind == 8:  # WINDOW_UPDATE
                self._windows[stream] += int.from_bytes(content, "big")
            elif kind == 4 and not flags & 1:  # SETTINGS
                for at in range(0, size, 6):
                    if content[at : at + 2] == b"\0\4":
                        value = int.from_bytes(content[at + 2 : at + 6], "big")
                        self._windows[1] += value - 65535
                self._write(frame(4, 1, 0))
            elif kind == 6 and not flags & 1:  # PING
                self._write(frame(6, 1, 0, content))
            elif kind == 3 or (kind == 1 and flags & 1):  # reset, refused
                self._ended = True

    def send(self):
        """Sends what the windows allow; `False` at the end."""
        while not self._ended and self._left:
            size = min(16384, self._left, *self._windows.values())
            if size <= 0:
                return True
            if not self._write(frame(0, 0, 1, bytes(size))):
                return not self._ended
            self._left -= size
            for stream in self._windows:
                self._windows[stream] -= size
        if self._ended:
            self._connection.close()
        return not self._ended

    def _write(self, content):
        try:
            sent = self._connection.send(content)
        except BlockingIOError:
            return False
        except OSError:
            sent = -1
        self._ended = self._ended or sent != len(content)
        return not self._ended


def main():
    """Runs the benchmark."""
    arguments = options(__doc__)
    show(measure(arguments.quick), arguments.json)


if __name__ == "__main__":
    main()
