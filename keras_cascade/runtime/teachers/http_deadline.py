"""Network streams that end at a moment, however slowly bytes trickle."""

import contextlib
import queue
import socket
import threading
import time

import httpcore


class DeadlineBackend(httpcore.NetworkBackend):
    """Bounds everything that one request does, not each step of it.

    The time outs of an HTTP client bound a single read or write: a server
    that sends one byte a second never meets them. Here each step gets what is
    left until the deadline of the request that its thread works on, name
    resolution and every address of a host included.

    Example:

    ```python
    backend = DeadlineBackend()
    pool = httpcore.ConnectionPool(network_backend=backend)
    with backend.within(5.0):
        pool.request("GET", "http://127.0.0.1:8501/v1/models/teacher")
    ```
    """

    def __init__(self):
        self._backend = httpcore.SyncBackend()
        self._local = threading.local()

    @contextlib.contextmanager
    def within(self, seconds):
        """Ends what this thread does in the block after `seconds`."""
        self._local.end = time.monotonic() + seconds
        try:
            yield
        finally:
            self._local.end = None

    def left(self, error):
        """Seconds that are left; raises `error` where there are none."""
        end = getattr(self._local, "end", None)
        if end is None:  # closing, outside of any request
            return 1.0
        left = end - time.monotonic()
        if left <= 0:
            raise error("The time for the whole request is over.")
        return left

    def connect_tcp(
        self,
        host,
        port,
        timeout=None,
        local_address=None,
        socket_options=None,
    ):
        """Connects to the first address of a host that takes it."""
        failed = httpcore.ConnectError(f"'{host}' has no address.")
        for address in self._addresses(host, port):
            try:
                stream = self._backend.connect_tcp(
                    address,
                    port,
                    self.left(httpcore.ConnectTimeout),
                    local_address,
                    socket_options,
                )
            except httpcore.ConnectError as error:
                failed = error
            else:
                return DeadlineStream(stream, self)
        raise failed

    def _addresses(self, host, port):
        """A host's addresses; the system's resolver knows no time out."""
        answer = queue.SimpleQueue()

        def resolve():
            try:
                found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                answer.put([one[4][0] for one in found])
            except (OSError, UnicodeError) as error:
                answer.put(error)

        left = self.left(httpcore.ConnectTimeout)
        threading.Thread(target=resolve, daemon=True).start()
        try:
            found = answer.get(timeout=left)
        except queue.Empty:
            raise httpcore.ConnectTimeout(
                f"'{host}' was not resolved in time."
            ) from None
        if isinstance(found, Exception):
            raise httpcore.ConnectError(str(found)) from found
        return found


class DeadlineStream(httpcore.NetworkStream):
    """A stream each of whose steps gets what time is left."""

    def __init__(self, stream, backend):
        self._stream = stream
        self._backend = backend

    def read(self, max_bytes, timeout=None):
        """Next bytes."""
        left = self._backend.left(httpcore.ReadTimeout)
        return self._stream.read(max_bytes, left)

    def write(self, buffer, timeout=None):
        """Sends all of the bytes."""
        connection = self._stream.get_extra_info("socket")
        rest = memoryview(buffer)
        try:
            while rest:
                connection.settimeout(self._backend.left(httpcore.WriteTimeout))
                rest = rest[connection.send(rest) :]
        except TimeoutError as error:
            raise httpcore.WriteTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    def start_tls(self, ssl_context, server_hostname=None, timeout=None):
        """The same stream under TLS."""
        left = self._backend.left(httpcore.ConnectTimeout)
        stream = self._stream.start_tls(ssl_context, server_hostname, left)
        return DeadlineStream(stream, self._backend)

    def close(self):
        """Closes the socket."""
        self._stream.close()

    def get_extra_info(self, info):
        """As `httpcore.NetworkStream`."""
        return self._stream.get_extra_info(info)
