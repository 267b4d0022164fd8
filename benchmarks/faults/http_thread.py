"""HTTP servers of the benchmarks, in a thread."""

import http.server
import threading


class QuietServer(http.server.ThreadingHTTPServer):
    """Server that says nothing of clients that hang up."""

    daemon_threads = True

    def handle_error(self, *_):
        """Ignores a client that hangs up."""


class HttpThread:
    """Server on a free port, in a thread; a context manager.

    Args:
        handler: class derived from `http.server.BaseHTTPRequestHandler`.

    Attributes:
        port: int.
    """

    def __init__(self, handler):
        self._server = QuietServer(("127.0.0.1", 0), handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
