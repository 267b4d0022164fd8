"""Small servers on real sockets."""

import contextlib
import json
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import trustme


@contextlib.contextmanager
def http_server(answer, tls=None):
    """HTTP server that answers with `answer(method, path, headers, body)`.

    Args:
        answer: function that returns `(status, body)` or `(status, body,
            headers)`; a body that is not bytes is sent as JSON.
        tls: optional `ssl.SSLContext`.

    Yields:
        The server, with `url` and `requests`, a list of `(path, body)`.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self):
            self._reply(self.rfile.read(int(self.headers["Content-Length"])))

        def do_GET(self):
            self._reply(b"")

        def _reply(self, body):
            self.server.requests.append((self.path, body))
            status, content, *more = answer(
                self.command, self.path, self.headers, body
            )
            if not isinstance(content, bytes):
                content = json.dumps(content).encode()
            self.send_response(status)
            for name, value in (more[0] if more else {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        connections = 0

        def get_request(self):
            taken = super().get_request()
            self.connections += 1
            return taken

        def handle_error(self, *_):
            pass  # a client that hangs up is what some tests are about

    running = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        running.socket = tls.wrap_socket(running.socket, server_side=True)
    running.requests = []
    scheme = "http" if tls is None else "https"
    running.url = f"{scheme}://127.0.0.1:{running.server_address[1]}"
    thread = threading.Thread(target=running.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield running
    finally:
        running.shutdown()
        running.server_close()
        thread.join()


@contextlib.contextmanager
def raw_server(talk):
    """TCP server that calls `talk(connection)` per connection.

    Yields:
        str, the server's URL.
    """
    listening = socket.create_server(("127.0.0.1", 0))
    taken, threads = [], []

    def serve():
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:  # closed: the test is over
                return
            taken.append(connection)
            thread = threading.Thread(
                target=handle, args=(connection,), daemon=True
            )
            thread.start()
            threads.append(thread)

    def handle(connection):
        with connection, contextlib.suppress(OSError):
            talk(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        for connection in (listening, *taken):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        for running in (thread, *threads):
            running.join()


def request_of(connection):
    """Reads one request with a body from a socket."""
    raw = b""
    while b"\r\n\r\n" not in raw:
        raw += received(connection)
    head, _, body = raw.partition(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    while len(body) < length:
        body += received(connection)
    return head, body


def received(connection):
    """Receives the next bytes; raises where there are no more."""
    content = connection.recv(65536)
    if not content:
        raise ConnectionError("The client is gone.")
    return content


def private_authority(folder):
    """Creates a TLS context, its authority's file and its certificate."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    certificate.configure_cert(context)
    file = folder / "ca.pem"
    authority.cert_pem.write_to_path(file)
    return context, file, certificate
