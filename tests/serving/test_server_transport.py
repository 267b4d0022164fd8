"""Real servers: silence, memory over gRPC, SIGHUP, mutual TLS, stalled logs."""

import json
import os
import resource
import select
import signal
import socket
import ssl
import subprocess

import grpc
import httpx
import pytest
import trustme

from benchmarks.faults.silent_clients import HEADERS, PREFACE, frame, header
from keras_cascade.runtime.teachers.grpc_messages import SERVICE
from keras_cascade.serving import ServerProcess
from tests.helpers.grpc_requests import infer_request

TOKENS = ["the-first-token-of-all", "the-second-token-of-all"]
BODY = {"instances": [[1.0] * 6]}
DESCRIPTORS = 512


class LimitedServer(ServerProcess):
    """Server process that may open few descriptors, as soft and hard limit."""

    def _command(self, ready_file):
        return [
            "/bin/sh", "-c", 'ulimit -n "$0" && exec "$@"',
            str(DESCRIPTORS), *super()._command(ready_file),
        ]  # fmt: skip


def bearer(token):
    return {"authorization": f"Bearer {token}"}


def events(server):
    lines = server.log_file.read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def wait_for_event(server, event, count=1):
    """Polls the log for an event."""
    while True:
        found = [one for one in events(server) if one["event"] == event]
        if len(found) >= count:
            return found
        assert server._process.poll() is None


def infer(channel, token=None):
    """Asks over gRPC; the code of the answer."""
    metadata = [] if token is None else [("authorization", f"Bearer {token}")]
    request = infer_request().SerializeToString()
    try:
        channel.unary_unary(f"/{SERVICE}/ModelInfer")(
            request, metadata=metadata, timeout=20
        )
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


@pytest.fixture(scope="module")
def limited(bundle_path, tmp_path_factory):
    """A server of 512 descriptors with a token."""
    folder = tmp_path_factory.mktemp("limited")
    (folder / "tokens").write_text(TOKENS[0])
    options = ["--token-file", str(folder / "tokens")]
    with LimitedServer(bundle_path, folder / "log", options=options) as server:
        yield server


@pytest.fixture
def many_descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    "beginning",
    [
        b"POST /v1/models/teacher:predict HTTP/1.1\r\nHost: localhost\r\n",
        b"POST /v1/models/teacher:predict HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Length: 1000\r\n\r\n{",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
    ids=["head", "body", "idle"],
)
def test_silent_connections_beyond_the_descriptors(
    limited, many_descriptors, beginning
):
    """800 of them: the others, health and gRPC are answered throughout."""
    base = f"http://127.0.0.1:{limited.port}"
    address = limited.grpc_url.split("/")[2]
    before = limited.log_file.stat().st_size
    silent = []
    options = [("grpc.use_local_subchannel_pool", 1)]
    with httpx.Client(timeout=20, headers=bearer(TOKENS[0])) as client:
        for number in range(800):
            connection = socket.create_connection(("127.0.0.1", limited.port))
            silent.append(connection)
            connection.sendall(beginning)
            if number % 100 == 99:
                url = f"{limited.url}:predict"
                assert client.post(url, json=BODY).status_code == 200
                assert httpx.get(f"{base}/v2/health/ready").status_code == 200
                with grpc.insecure_channel(address, options) as channel:
                    assert infer(channel, TOKENS[0]) == grpc.StatusCode.OK
    open_now = len(os.listdir(f"/proc/{limited.pid}/fd"))
    assert open_now < DESCRIPTORS - 32
    for connection in silent:
        connection.close()
    text = limited.log_file.read_text()
    assert "accept_failed" not in text and "Traceback" not in text
    # 24 answered requests, 100 refused ones at once, and a few lines more.
    assert limited.log_file.stat().st_size - before < 80_000


@pytest.mark.parametrize("beginning", [b"", PREFACE])
def test_silent_grpc_connections_leave_descriptors_for_http(
    limited, many_descriptors, beginning
):
    host, port = limited.grpc_url.split("/")[2].split(":")
    silent = []
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        assert infer(channel, TOKENS[0]) == grpc.StatusCode.OK
        for _ in range(800):
            silent.append(socket.create_connection((host, int(port))))
            silent[-1].sendall(beginning)
        assert infer(channel, TOKENS[0]) == grpc.StatusCode.OK
        response = httpx.post(
            f"{limited.url}:predict",
            json=BODY, headers=bearer(TOKENS[0]), timeout=20,
        )  # fmt: skip
        assert response.status_code == 200
    assert len(os.listdir(f"/proc/{limited.pid}/fd")) < DESCRIPTORS - 32
    for connection in silent:
        connection.close()


def trailers(server, *fields):
    """Sends the beginning of a call; the frames until the call has ended."""
    host, port = server.grpc_url.split("/")[2].split(":")
    content = HEADERS + b"".join(header(*field) for field in fields)
    with socket.create_connection((host, int(port)), 20) as connection:
        # A message of 4 MiB, of which one kilobyte arrives.
        message = frame(0, 0, 1, b"\0\0\x40\0\0" + bytes(1024))
        connection.sendall(PREFACE + frame(1, 4, 1, content) + message)
        received, ended = b"", False
        while not ended:
            part = connection.recv(65536)
            assert part
            received += part
            rest = received
            while len(rest) >= 9:
                size = int.from_bytes(rest[:3], "big")
                kind, flags = rest[3:5]
                ended = ended or (kind == 1 and bool(flags & 1))
                rest = rest[9 + size :]
        return received


def test_grpc_calls_without_a_token_end_before_their_message(limited):
    """Of 4 MiB one kilobyte was sent: the server does not wait for more."""
    assert b"authorization: Bearer TOKEN" in trailers(limited)
    wrong = (b"authorization", b"Bearer x")
    assert b"authorization: Bearer TOKEN" in trailers(limited, wrong)


def test_sighup_reads_tokens_and_certificates_anew(bundle_path, tmp_path):
    """Over both protocols; invalid files change nothing."""
    authorities = [trustme.CA(), trustme.CA()]
    tokens = tmp_path / "tokens"
    paths = tmp_path / "cert", tmp_path / "key"

    def write(number):
        tokens.write_text(TOKENS[number])
        issued = authorities[number].issue_cert("localhost", "127.0.0.1")
        issued.cert_chain_pems[0].write_to_path(paths[0])
        issued.private_key_pem.write_to_path(paths[1])

    def codes(server, authority, token):
        """Statuses over HTTP and gRPC, on new connections."""
        context = ssl.create_default_context()
        authority.configure_trust(context)
        try:
            over_http = httpx.post(
                f"{server.url}:predict", json=BODY, headers=bearer(token),
                verify=context, timeout=20,
            ).status_code  # fmt: skip
        except httpx.ConnectError:
            over_http = None
        credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
        address = server.grpc_url.split("/")[2]
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.secure_channel(address, credentials, options) as channel:
            return over_http, infer(channel, token)

    ok = 200, grpc.StatusCode.OK
    write(0)
    options = [
        "--token-file", str(tokens),
        "--tls-cert", str(paths[0]), "--tls-key", str(paths[1]),
    ]  # fmt: skip
    with ServerProcess(
        bundle_path, tmp_path / "log", host="localhost", options=options
    ) as server:
        assert codes(server, authorities[0], TOKENS[0]) == ok
        write(1)
        server._process.send_signal(signal.SIGHUP)
        wait_for_event(server, "credentials_reloaded")
        assert codes(server, authorities[1], TOKENS[1]) == ok
        refused = codes(server, authorities[1], TOKENS[0])
        assert refused == (401, grpc.StatusCode.UNAUTHENTICATED)
        stranger = codes(server, authorities[0], TOKENS[1])
        assert stranger == (None, grpc.StatusCode.UNAVAILABLE)
        for path, text in ((tokens, "short"), (paths[1], "no key")):
            before = path.read_text()
            path.write_text(text)
            count = len(
                [1 for one in events(server)
                 if one["event"] == "credentials_refused"]
            )  # fmt: skip
            server._process.send_signal(signal.SIGHUP)
            said = wait_for_event(server, "credentials_refused", count + 1)
            assert str(path) in said[-1]["why"]
            assert codes(server, authorities[1], TOKENS[1]) == ok
            path.write_text(before)


def test_sighup_without_files_changes_nothing(server):
    server._process.send_signal(signal.SIGHUP)
    wait_for_event(server, "credentials_reloaded")
    assert httpx.post(f"{server.url}:predict", json=BODY).status_code == 200


def test_mutual_tls(bundle_path, tmp_path):
    """Only clients with a certificate of the authority, on both ports."""
    authority, stranger = trustme.CA(), trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert")
    issued.private_key_pem.write_to_path(tmp_path / "key")
    authority.cert_pem.write_to_path(tmp_path / "ca")
    options = []
    for option, name in (
        ("--tls-cert", "cert"), ("--tls-key", "key"), ("--tls-client-ca", "ca")
    ):  # fmt: skip
        options += [option, str(tmp_path / name)]
    with ServerProcess(
        bundle_path, tmp_path / "log", host="localhost", options=options
    ) as server:
        for owner, served in (
            (authority, True),
            (stranger, False),
            (None, False),
        ):
            context = ssl.create_default_context()
            authority.configure_trust(context)
            key = chain = None
            if owner is not None:
                device = owner.issue_cert("device")
                device.configure_cert(context)
                key = device.private_key_pem.bytes()
                chain = device.cert_chain_pems[0].bytes()
            try:
                status = httpx.post(
                    f"{server.url}:predict", json=BODY, verify=context,
                    timeout=20,
                ).status_code  # fmt: skip
            except (httpx.TransportError, ssl.SSLError):
                status = None
            assert status == (200 if served else None)
            credentials = grpc.ssl_channel_credentials(
                authority.cert_pem.bytes(), key, chain
            )
            address = server.grpc_url.split("/")[2]
            options = [("grpc.use_local_subchannel_pool", 1)]
            with grpc.secure_channel(address, credentials, options) as channel:
                code = infer(channel)
            expected = (
                grpc.StatusCode.OK if served else grpc.StatusCode.UNAVAILABLE
            )
            assert code == expected


class PipedServer(ServerProcess):
    """Server process whose log goes to a pipe that nobody reads."""

    def _start(self, ready_file):
        self.log_file.touch()
        self.reading, writing = os.pipe()
        self._process = subprocess.Popen(
            self._command(ready_file),
            stdin=subprocess.PIPE,
            stdout=writing,
            stderr=writing,
        )
        os.close(writing)


def test_a_log_reader_that_stalls_does_not_stall_the_server(
    bundle_path, tmp_path
):
    """A pipe holds 64 KiB, which is some 400 lines."""
    server = PipedServer(bundle_path, tmp_path / "log")
    with server, httpx.Client(timeout=60) as client:
        for _ in range(600):
            response = client.post(f"{server.url}:predict", json=BODY)
            assert response.status_code == 200
        ready, _, _ = select.select([server.reading], [], [], 0)
        assert ready
        server._process.send_signal(signal.SIGTERM)
        assert server._process.wait(120) == 0
    os.close(server.reading)
