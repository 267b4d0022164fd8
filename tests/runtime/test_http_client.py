"""Time and size bounds, connections, TLS and tokens over real sockets."""

import itertools
import threading

import pytest

from keras_cascade.runtime import TeacherError
from keras_cascade.runtime.teachers import http_deadline
from keras_cascade.runtime.teachers.http_teacher import HttpClient
from tests.helpers.socket_servers import (
    http_server,
    private_authority,
    raw_server,
    request_of,
)

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def client_for(url, timeout=30.0, limit=1000, token=None, ca_file=None):
    return HttpClient(url, timeout, limit, token, ca_file)


def asked(url, **options):
    client = client_for(url, **options)
    try:
        return client.request("POST", url, b"question")
    finally:
        client.close()


def answering(raw):
    def talk(connection):
        request_of(connection)
        connection.sendall(raw)

    return talk


def test_a_connection_is_used_again():
    with http_server(lambda *_: (200, b"fine")) as server:
        client = client_for(server.url)
        for _ in range(5):
            headers, body = client.request("POST", server.url, b"x")
            assert body == b"fine"
            assert headers["content-length"] == "4"
        client.close()
        assert server.connections == 1


def test_many_threads_share_a_client():
    with http_server(lambda _, __, ___, body: (200, body)) as server:
        client = client_for(server.url)
        found = {}

        def work(name):
            found[name] = client.request("POST", server.url, name)[1]

        names = [str(i).encode() * 50 for i in range(16)]
        threads = [threading.Thread(target=work, args=(n,)) for n in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        client.close()
    assert found == {name: name for name in names}


@pytest.fixture
def quick_clock(monkeypatch):
    """A clock that advances one second per reading."""
    ticks = itertools.count()
    monkeypatch.setattr(
        http_deadline.time, "monotonic", lambda: float(next(ticks))
    )


@pytest.mark.parametrize(
    "beginning",
    [b"", b"HTTP/1.1 200 OK\r\nX: ", OK.replace(b"2\r", b"9999999\r")],
)
@pytest.mark.usefixtures("quick_clock")
def test_a_trickle_does_not_prolong_a_request(beginning):
    """Every byte arrives in time, but the answer never ends."""

    def talk(connection):
        request_of(connection)
        connection.sendall(beginning)
        while True:
            connection.sendall(b"x")

    with (
        raw_server(talk) as url,
        pytest.raises(TeacherError, match="did not answer within") as caught,
    ):
        # An endless header is also cut by its own limit, later than this.
        asked(url, timeout=12.0, limit=10**9)
    assert caught.value.retryable


def test_a_server_that_never_answers():
    done = threading.Event()

    def talk(connection):
        request_of(connection)
        done.wait()

    with raw_server(talk) as url:
        with pytest.raises(TeacherError, match=r"within 0.05 s.*Timeout"):
            asked(url, timeout=0.05)
        done.set()


def test_a_name_that_is_not_resolved_in_time(monkeypatch):
    never = threading.Event()
    monkeypatch.setattr(
        http_deadline.socket,
        "getaddrinfo",
        lambda *_, **__: never.wait() and [],
    )
    with pytest.raises(TeacherError, match=r"within 0\.05 s"):
        asked("http://teacher.invalid", timeout=0.05)
    never.set()


def test_a_name_that_does_not_exist(monkeypatch):
    def unknown(*_, **__):
        raise http_deadline.socket.gaierror("Name or service not known")

    monkeypatch.setattr(http_deadline.socket, "getaddrinfo", unknown)
    with pytest.raises(TeacherError, match="not known") as caught:
        asked("http://teacher.invalid")
    assert caught.value.retryable


def test_a_name_that_is_none():
    with pytest.raises(TeacherError, match="does not answer"):
        asked(f"http://{'x' * 64}.invalid")


def test_the_next_address_of_a_host_is_tried(monkeypatch):
    real = http_deadline.socket.getaddrinfo

    def two(host, port, *args, **kwargs):
        if host != "teacher.invalid":
            return real(host, port, *args, **kwargs)
        (good,) = real("127.0.0.1", port, *args, **kwargs)
        # Nobody listens there.
        return [(*good[:4], ("127.0.0.99", port)), good]

    monkeypatch.setattr(http_deadline.socket, "getaddrinfo", two)
    with http_server(lambda *_: (200, b"fine")) as server:
        url = server.url.replace("127.0.0.1", "teacher.invalid")
        assert asked(url)[1] == b"fine"


@pytest.mark.parametrize("chunked", [False, True])
def test_a_long_answer_is_not_read(chunked):
    body = b"x" * 1001
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n" + body
    if chunked:
        raw = (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n"
            + body
            + b"\r\n0\r\n\r\n"
        )
    with raw_server(answering(raw)) as url:
        with pytest.raises(TeacherError, match="more than 1000 bytes"):
            asked(url)
        assert asked(url, limit=1001)[1] == body


def test_an_endless_answer_is_cut_off():
    def talk(connection):
        request_of(connection)
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        while True:
            connection.sendall(b"1f4\r\n" + b"x" * 500 + b"\r\n")

    with (
        raw_server(talk) as url,
        pytest.raises(TeacherError, match="more than 1000 bytes"),
    ):
        asked(url)


@pytest.mark.parametrize(
    ("raw", "message", "retryable"),
    [
        (b"", "does not answer", True),
        (b"what?\r\n\r\n", "does not answer", True),
        (OK.replace(b"2\r", b"3\r"), "does not answer", True),
        (OK.replace(b"2\r", b"-1\r"), "does not answer", True),
        (OK.replace(b"200", b"503"), "status 503: ok", True),
        (OK.replace(b"200", b"429"), "status 429", True),
        (OK.replace(b"200", b"500"), "status 500", False),
        (OK.replace(b"200", b"401"), "status 401.*token", False),
        (OK.replace(b"200", b"404"), "status 404.*name", False),
        (OK.replace(b"200 OK", b"301 Moved\r\nLocation: /"), "301", False),
        (
            OK.replace(b"\r\n\r\n", b"\r\nContent-Encoding: br\r\n\r\n"),
            "encoding 'br'",
            False,
        ),
    ],
)
def test_answers_that_are_none(raw, message, retryable):
    with (
        raw_server(answering(raw)) as url,
        pytest.raises(TeacherError, match=message) as caught,
    ):
        asked(url)
    assert caught.value.retryable is retryable


@pytest.mark.parametrize(
    ("status", "refused", "about_input"),
    [
        (400, True, True), (413, True, True), (422, True, True),
        (401, True, False), (404, True, False),
        (429, False, False), (500, False, False), (503, False, False),
    ],
)  # fmt: skip
def test_errors_by_status(status, refused, about_input):
    with (
        http_server(lambda *_: (status, b"no")) as server,
        pytest.raises(TeacherError) as caught,
    ):
        asked(server.url)
    assert caught.value.refused is refused
    assert caught.value.about_input is about_input


@pytest.mark.parametrize(
    ("text", "seconds"), [("7", 7.0), ("soon", None), ("-1", None)]
)
def test_a_server_says_when_to_come_back(text, seconds):
    reply = (503, b"", {"Retry-After": text})
    with (
        http_server(lambda *_: reply) as server,
        pytest.raises(TeacherError) as caught,
    ):
        asked(server.url)
    assert caught.value.retry_after == seconds


def test_a_token_travels_in_a_header():
    def answer(method, path, headers, body):
        return 200, headers["Authorization"].encode()

    with http_server(answer) as server:
        assert asked(server.url, token="secret")[1] == b"Bearer secret"


def test_a_private_authority(tmp_path):
    tls, ca_file, _ = private_authority(tmp_path)
    with http_server(lambda *_: (200, b"safe"), tls) as server:
        assert asked(server.url, ca_file=ca_file)[1] == b"safe"
        with pytest.raises(TeacherError, match="ca_file=") as caught:
            asked(server.url)
        assert not caught.value.retryable


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_that_holds_no_certificates(tmp_path, content):
    file = tmp_path / "ca.pem"
    if content:
        file.write_text(content)
    with pytest.raises(ValueError, match="PEM certificates"):
        client_for("https://127.0.0.1", ca_file=file)


def test_a_proxy_of_the_environment(monkeypatch):
    with http_server(lambda *_: (200, b"by proxy")) as proxy:
        at = proxy.url.replace("http://", "http://user:pa%20ss@")
        for name in ("http_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(name, at)
        monkeypatch.setenv("no_proxy", "")
        assert asked("http://teacher.invalid/x")[1] == b"by proxy"
        assert proxy.requests[0][0] == "http://teacher.invalid/x"
        # Not for this machine: the proxy has no way back.
        with http_server(lambda *_: (200, b"direct")) as server:
            assert asked(server.url)[1] == b"direct"


def test_a_proxy_of_another_kind_is_not_passed_by(monkeypatch):
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "socks5://user:secret@proxy:1080")
    monkeypatch.setenv("no_proxy", "near.invalid")
    with pytest.raises(ValueError, match=r"'socks5://\.\.\.'.*no_proxy"):
        client_for("https://teacher.invalid")
    client_for("https://near.invalid").close()
