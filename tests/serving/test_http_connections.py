"""HTTP connections on real sockets: silence, limits, malformed requests."""

import json
import socket
import threading

import numpy as np
import pytest

from keras_cascade.serving import connections as phases
from keras_cascade.serving.http_application import http_application
from keras_cascade.serving.loaded_teacher import LoadedTeacher
from keras_cascade.serving.server_metrics import ServerMetrics
from keras_cascade.serving.settings import Limits, Tokens
from keras_cascade.serving.teacher_service import TeacherService
from tests.helpers.asgi_client import linear_teacher
from tests.helpers.http_server_thread import HttpServerThread

PREDICT = "/v1/models/teacher:predict"
BODY = json.dumps({"instances": [[1.0] * 6]}).encode()
TOKEN = "a-token-of-some-length"


def head(method="POST", path=PREDICT, *lines, host="localhost"):
    """The head of a request."""
    lines = (f"{method} {path} HTTP/1.1", f"Host: {host}", *lines, "", "")
    return "\r\n".join(lines).encode()


def predict(body=BODY, *lines):
    """A request of the model."""
    return head("POST", PREDICT, f"Content-Length: {len(body)}", *lines) + body


HEALTH = head("GET", "/v2/health/live")
HALF_HEAD = head()[:-2]
HALF_BODY = predict()[:-5]


@pytest.fixture
def serve(served_bundle):
    """A function that makes an `HttpServerThread`, with limits."""

    def make(
        run=linear_teacher,
        tokens=None,
        total=100,
        requests=50,
        app=http_application,
        origins=(),
        **limits,
    ):
        def make_service():
            settings, metrics = Limits(**limits), ServerMetrics()
            teacher = LoadedTeacher(served_bundle, run, settings, metrics)
            return TeacherService(teacher, settings, tokens, metrics)

        return HttpServerThread(make_service, total, requests, app, origins)

    return make


def response(connection, method="POST"):
    """Status, headers and body of the next response; `None` at the end."""
    top = b""
    while not top.endswith(b"\r\n\r\n"):
        try:
            part = connection.recv(1)
        except ConnectionResetError:
            return None
        if not part:
            assert not top
            return None
        top += part
    first, *lines = top.decode()[:-4].split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    length = 0 if method == "HEAD" else int(headers.get("content-length", 0))
    body = b""
    while len(body) < length:
        body += connection.recv(length - len(body))
    return int(first.split()[1]), headers, body


def ask(connection, request, method="POST"):
    connection.sendall(request)
    return response(connection, method)


def ended(connection):
    """Whether the server has closed; waits for it."""
    try:
        return connection.recv(65536) == b""
    except ConnectionError:
        return True


def until(condition):
    """Polls a condition of the server's thread."""
    while not condition():
        pass


@pytest.mark.parametrize("beginning", [b"", HALF_HEAD, HEALTH])
def test_silent_connections_beyond_the_limit_make_room(serve, beginning):
    """Without a token, 60 of them do not shut out anyone."""
    with serve(tokens=Tokens([TOKEN]), total=10) as server:
        good = server.connect()
        bearer = f"Authorization: Bearer {TOKEN}"
        assert ask(good, predict(BODY, bearer))[0] == 200
        silent = []
        for _ in range(60):
            silent.append(server.connect())
            silent[-1].sendall(beginning)
        for _ in range(3):
            with server.connect() as new:
                assert ask(new, predict(BODY, bearer))[0] == 200
            assert ask(good, predict(BODY, bearer))[0] == 200  # was kept
        assert len(server.table) <= 10
        assert sum(server.table.closed.values()) >= 50
        for connection in (good, *silent):
            connection.close()


def test_half_sent_bodies_make_room_for_requests(serve):
    """Of three requests at a time, all three stalled."""
    with serve(requests=3) as server:
        stalled = []
        for number in range(1, 4):
            stalled.append(server.connect())
            stalled[-1].sendall(HALF_BODY)
            until(lambda number=number: server.table.requests == number)
        # Before they have been silent for a second they may be just slow:
        # the answer is 503, in JSON, and health checks are answered.
        with server.connect() as new, server.connect() as health:
            status, headers, body = ask(new, predict())
            assert (status, headers["connection"]) == (503, "close")
            assert "too many requests" in json.loads(body)["error"]
            assert headers["retry-after"] == "1"
            assert ask(health, HEALTH)[0] == 200
        for entry in list(server.table._phases[phases.BODY].values()):
            for connection in entry:
                entry[connection] -= 1.0  # a second has passed
        with server.connect() as new:
            assert ask(new, predict())[0] == 200
        assert ended(stalled[0])  # the oldest
        for connection in stalled[1:]:  # goes on
            assert ask(connection, predict()[-5:])[0] == 200
        for connection in stalled:
            connection.close()


def test_requests_in_progress_are_never_cut_off(serve):
    """With every connection busy, the next ones wait to be accepted."""
    go, running = threading.Event(), threading.Semaphore(0)

    def slow(inputs):
        running.release()
        assert go.wait(30)
        return linear_teacher(inputs)

    with serve(slow, total=3, requests=3, max_batch=1) as server:
        busy = [server.connect() for _ in range(3)]
        for connection in busy:
            connection.sendall(predict())
        running.acquire()
        until(lambda: server.table.size(phases.ANSWER) == 3)
        waiting = server.connect()
        waiting.sendall(HEALTH)
        go.set()
        assert [response(one)[0] for one in busy] == [200] * 3
        for connection in busy:
            connection.close()
        assert response(waiting)[0] == 200
        waiting.close()


def test_one_client_does_not_take_every_connection(serve):
    with serve(max_connections_per_client=4) as server:
        kept = server.connect()
        assert ask(kept, predict())[0] == 200
        silent = [server.connect() for _ in range(6)]
        assert ended(silent[0]) and ended(silent[1])
        until(lambda: server.table.closed["client has too many"] == 3)
        until(lambda: len(server.table) == 4)
        assert ask(kept, predict())[0] == 200
        for connection in (kept, *silent):
            connection.close()


@pytest.mark.parametrize(
    "beginning, answer, names",
    [
        (b"", None, ""),
        (HALF_HEAD, 408, "The head did not arrive"),
        (b"\r\n\r\n", None, ""),
        (HALF_BODY, 408, "The body did not arrive"),
        (HEALTH, 200, ""),
        (predict(), 200, ""),
    ],
)
def test_timeouts_of_head_body_and_idle(serve, beginning, answer, names):
    limits = {"head_seconds": 0.2, "silent_seconds": 0.2, "idle_seconds": 0.2}
    with serve(**limits) as server, server.connect() as connection:
        received = ask(connection, beginning)
        if answer is None:
            assert received is None
            return
        assert received[0] == answer
        assert names in received[2].decode()
        assert ended(connection)
        until(lambda: not len(server.table))
        until(lambda: not server._server.server_state.tasks)


SHOP, OTHER = "https://shop.example", "https://other.example"
FROM_SHOP = f"Origin: {SHOP}"


@pytest.mark.parametrize(
    "origins, request_, status, readable",
    [
        ((SHOP,), HALF_BODY, 408, SHOP),  # without an origin, of one page
        ((SHOP, OTHER), predict(BODY, FROM_SHOP)[:-5], 408, SHOP),
        ((SHOP,), predict(BODY, f"Origin: {OTHER}")[:-5], 408, None),
        ((SHOP, OTHER), HALF_BODY, 408, None),  # which one is not known
        (("*",), HALF_HEAD, 408, "*"),
        (("*",), b"no HTTP\r\n\r\n", 400, "*"),
        ((SHOP, OTHER), head("GET", "/", FROM_SHOP, "X: b", "Host: b"), 400,
         SHOP),
        ((), HALF_BODY, 408, None),
    ],
)  # fmt: skip
def test_a_page_reads_the_servers_own_errors(
    serve, origins, request_, status, readable
):
    """Those that are written before the application sees the request."""
    limits = {"head_seconds": 0.2, "silent_seconds": 0.2}
    with (
        serve(origins=origins, **limits) as server,
        server.connect() as connection,
    ):
        received, headers, body = ask(connection, request_)
    assert received == status
    assert "Expected a request of HTTP/1.1" in json.loads(body)["error"]
    assert headers.get("access-control-allow-origin") == readable
    exposed = headers.get("access-control-expose-headers", "")
    assert ("x-request-id" in exposed) is (readable is not None)
    explicit = bool(origins) and "*" not in origins
    assert headers.get("vary") == ("origin" if explicit else None)


def test_a_page_reads_that_its_head_is_too_long(serve):
    with (
        serve(origins=(SHOP, OTHER)) as server,
        server.connect() as connection,
    ):
        assert ask(connection, HEALTH)[0] == 200
        connection.sendall(head("GET", "/", FROM_SHOP, "X: a")[:-4])
        with server.connect() as other:  # that much was read before this
            assert ask(other, HEALTH)[0] == 200
        # Not a byte more than the server reads: it closes with the last one.
        status, headers, _ = ask(connection, b"a" * (64 * 1024 + 1))
    assert status == 431
    assert headers["access-control-allow-origin"] == SHOP


def test_a_head_that_trickles_has_the_same_timeout(serve):
    with serve(head_seconds=0.3) as server, server.connect() as connection:
        connection.sendall(HALF_HEAD)
        connection.settimeout(0.01)
        received = b""
        while not received:
            try:
                connection.sendall(b"X")
                received = connection.recv(4096)
            except TimeoutError:
                continue
        assert b" 408 " in received


def test_a_client_that_does_not_read_is_cut_off(serve):
    """Its answers fill the server's buffers, and stay there."""

    async def large(scope, receive, send):
        headers = [(b"content-length", b"20000000")]
        await send(
            {"type": "http.response.start", "status": 200, "headers": headers}
        )
        for _ in range(20):
            part = {"type": "http.response.body", "body": bytes(10**6)}
            await send({**part, "more_body": True})

    with (
        serve(silent_seconds=0.2, app=lambda service: large) as server,
        server.connect() as connection,
    ):
        connection.sendall(HEALTH)
        until(lambda: server.table.closed["write timeout"] == 1)
        until(lambda: not len(server.table))
        until(lambda: not server._server.server_state.tasks)


def test_pipelined_requests_are_answered_in_turn_and_bounded(serve):
    with serve(max_batch=3) as server:
        with server.connect() as connection:
            requests = [
                predict(json.dumps({"instances": [[n] * 6]}).encode())
                for n in range(20)
            ]
            connection.sendall(b"".join(requests))
            for n in range(20):
                status, _, body = response(connection)
                logits = json.loads(body)["predictions"]
                row = np.full((1, 6), n, "float32")
                np.testing.assert_allclose(
                    logits, linear_teacher({"input": row}), rtol=1e-5
                )
                assert status == 200
        with server.connect() as connection:
            connection.sendall(HEALTH * 5000)
            answers = 0
            while (answer := response(connection)) is not None:
                assert answer[0] in (200, 429)
                answers += 1
            assert answers < 5000


def chunked(*parts):
    return head("POST", PREDICT, "Transfer-Encoding: chunked") + b"".join(parts)


def with_lines(*lines, body=b"{}"):
    return head("POST", PREDICT, *lines) + body


TE = "Transfer-Encoding: chunked"
AMBIGUOUS = {
    "content-length, then transfer-encoding": with_lines(
        "Content-Length: 2", TE, body=b"0\r\n\r\n"
    ),
    "transfer-encoding, then content-length": with_lines(
        TE, "Content-Length: 2", body=b"0\r\n\r\n"
    ),
    "two lengths": with_lines("Content-Length: 2", "Content-Length: 3"),
    "one length twice": with_lines("Content-Length: 2", "Content-Length: 2"),
    "a list of lengths": with_lines("Content-Length: 2, 2"),
    "length with a sign": with_lines("Content-Length: +2"),
    "negative length": with_lines("Content-Length: -2"),
    "hexadecimal length": with_lines("Content-Length: 0x2"),
    "empty length": with_lines("Content-Length: "),
    "space before the colon": with_lines("Content-Length : 2"),
    "bare line feeds": with_lines("Content-Length: 2").replace(b"\r\n", b"\n"),
    "one bare line feed": with_lines("X: a\nContent-Length: 2"),
    "bare carriage return": with_lines("X: a\rY: b", "Content-Length: 2"),
    "folded header": with_lines("X: a\r\n b", "Content-Length: 2"),
    "folded coding": with_lines(
        "Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n"
    ),
    "another coding": with_lines("Transfer-Encoding: gzip", body=b"0\r\n\r\n"),
    "two codings": with_lines(
        "Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"
    ),
    "coding twice": with_lines(TE, TE, body=b"0\r\n\r\n"),
    "almost chunked": with_lines(
        "Transfer-Encoding: xchunked", body=b"0\r\n\r\n"
    ),
    "coding of HTTP/1.0": chunked(b"0\r\n\r\n").replace(b"/1.1", b"/1.0"),
    "no chunk size": chunked(b"\r\n{}\r\n0\r\n\r\n"),
    "chunk size not hexadecimal": chunked(b"zz\r\n{}\r\n0\r\n\r\n"),
    "chunk size with 0x": chunked(b"0x2\r\n{}\r\n0\r\n\r\n"),
    "negative chunk size": chunked(b"-2\r\n{}\r\n0\r\n\r\n"),
    "chunk size beyond 64 bits": chunked(b"1" + b"0" * 16 + b"2\r\n{}\r\n"),
    "chunk with bare line feeds": chunked(b"2\n{}\n0\n\n"),
    "chunk longer than its size": chunked(b"2\r\n{}xx\r\n0\r\n\r\n"),
    "chunk without an end": chunked(b"2\r\n{}XX0\r\n\r\n"),
    "line feed in a chunk extension": chunked(b"2;a\nb\r\n{}\r\n0\r\n\r\n"),
    "no host": with_lines("Content-Length: 2").replace(b"Host", b"Hose"),
    "two hosts": with_lines("Host: other", "Content-Length: 2"),
    "null byte": with_lines("X: a\0b", "Content-Length: 2"),
    "HTTP/2.0": with_lines("Content-Length: 2").replace(b"/1.1", b"/2.0"),
    "HTTP/0.9": b"GET /v2/health/live\r\n\r\n",
    "space in the address": head("GET", "/v2/health/live /"),
    "tabs": HEALTH.replace(b" ", b"\t", 2),
    "empty name": with_lines(": x", "Content-Length: 2"),
    "CONNECT": head("CONNECT", "localhost:1"),
    "no path": head("GET", "localhost:1"),
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 10,
}


@pytest.fixture(scope="module")
def strict(served_bundle):
    """A server that records which requests reach the application."""
    reached = []

    def app(service):
        async def application(scope, receive, send):
            size, more = 0, True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                size += len(message["body"])
                more = message["more_body"]
            reached.append((scope["method"], scope["path"], size))
            headers = [(b"content-length", b"2")]
            await send(
                {"type": "http.response.start", "status": 200,
                 "headers": headers}
            )  # fmt: skip
            await send({"type": "http.response.body", "body": b"ok"})

        return application

    def make_service():
        settings, metrics = Limits(), ServerMetrics()
        teacher = LoadedTeacher(
            served_bundle, linear_teacher, settings, metrics
        )
        return TeacherService(teacher, settings, metrics=metrics)

    with HttpServerThread(make_service, app=app) as server:
        server.reached = reached
        yield server


@pytest.mark.parametrize("name", AMBIGUOUS)
@pytest.mark.parametrize("split", [False, True])
def test_ambiguous_requests_are_refused(strict, name, split):
    """What two servers in a row could read differently, in one or 1-byte parts.

    A request after it, which one of the two would take for a body, is not
    read.
    """
    strict.reached.clear()
    request = AMBIGUOUS[name] + head("GET", "/smuggled")
    with strict.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for byte in request if split else ():
                connection.sendall(bytes([byte]))
            if not split:
                connection.sendall(request)
        except ConnectionError:
            pass  # it was refused before its end
        received = response(connection)
        if received is not None:  # or the refusal was lost in a reset
            status, headers, body = received
            assert (status, headers["connection"]) == (400, "close")
            assert json.loads(body)["error"].startswith("Expected a request")
            assert ended(connection)
        else:
            assert split
    assert strict.reached == []


def test_forms_that_are_not_ambiguous_are_read(strict):
    strict.reached.clear()
    upgrade = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c",
               "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")  # fmt: skip
    requests = [
        chunked(b"2\r\nab\r\n3;a=b\r\ncde\r\n0\r\n\r\n"),
        chunked(b"2\r\nab\r\n0\r\nTrailer: x\r\n\r\n"),
        # As Java's HttpClient offers it, with a body and without.
        with_lines(*upgrade, "Content-Length: 3", body=b"abc"),
        with_lines(*upgrade, TE, body=b"2\r\nab\r\n0\r\n\r\n"),
        head("GET", "/x", *upgrade),
        head("POST", "http://localhost/x", "Content-Length: 1") + b"a",
        b"\r\n" + head("GET", "/y"),
        head("GET", "/z").replace(b"/1.1", b"/1.0"),
    ]
    for request in requests[:-1]:
        with strict.connect() as connection:
            assert ask(connection, request)[0] == 200
            assert ask(connection, request)[0] == 200  # in step afterwards
    with strict.connect() as connection:
        assert ask(connection, requests[-1])[0] == 200
        assert ended(connection)
    # In one-byte parts, too, and one after the other in one piece.
    with strict.connect() as connection:
        for byte in b"".join(requests[:-1]):
            connection.sendall(bytes([byte]))
        for _ in requests[:-1]:
            assert response(connection)[0] == 200
    with strict.connect() as connection:
        connection.sendall(b"".join(requests[:-1]))
        for _ in requests[:-1]:
            assert response(connection)[0] == 200
    sizes = [5, 2, 3, 2, 0, 1, 0]
    doubled = [size for size in sizes for _ in range(2)]
    assert [one[2] for one in strict.reached] == [*doubled, 0, *sizes, *sizes]


def test_noise_after_a_request_does_not_take_its_answer(serve):
    go, running = threading.Event(), threading.Event()

    def slow(inputs):
        running.set()
        assert go.wait(30)
        return linear_teacher(inputs)

    with serve(slow) as server, server.connect() as connection:
        connection.sendall(predict())
        assert running.wait(30)
        connection.sendall(b"\0\0\0 noise\r\n\r\n")
        with server.connect() as other:  # the noise was read before this
            assert ask(other, HEALTH)[0] == 200
        go.set()
        status, _, body = response(connection)
        assert status == 200
        assert "predictions" in json.loads(body)
        assert ended(connection)


def test_heads_that_are_too_long(serve):
    with serve() as server:
        for part in ("X: " + "a" * 400_000, "\r\n".join(["X: a"] * 100_000)):
            with server.connect() as connection:
                try:
                    connection.sendall(head("GET", "/", part))
                    received = response(connection)
                except ConnectionError:
                    received = None
                assert received is None or received[0] == 431


def test_a_failure_while_accepting_is_logged_and_the_next_one_served(
    serve, server_log
):
    with serve() as server:
        (acceptor,) = server._server.servers
        make = acceptor._make_protocol

        def fail_once():
            acceptor._make_protocol = make
            raise ZeroDivisionError("a bug")

        acceptor._make_protocol = fail_once
        with server.connect() as unlucky:
            assert ended(unlucky)
        with server.connect() as connection:
            assert ask(connection, predict())[0] == 200
    failed = [one for one in map(json.loads, server_log)
              if one["event"] == "accept_failed"]  # fmt: skip
    assert len(failed) == 1 and "a bug" in failed[0]["traceback"]


def test_the_host_never_steers_a_redirect(serve):
    with serve() as server, server.connect() as connection:
        for path in ("/v2/", "/v1/models/", PREDICT + "/", "//evil.example"):
            status, headers, _ = ask(
                connection, head("GET", path, host="evil.example")
            )
            assert status == 404
            assert "location" not in headers


def test_health_checks_with_head(serve):
    with serve() as server, server.connect() as connection:
        for path in ("/", "/v2/health/live", "/v2/health/ready"):
            status, _, body = ask(connection, head("HEAD", path), "HEAD")
            assert (status, body) == (200, b"")


def test_metrics_count_connections(serve):
    with serve() as server, server.connect() as connection:
        _, _, text = ask(connection, head("GET", "/metrics"))
        assert b'open_connections{phase="answer"} 1.0' in text
