"""Network streams with one deadline for the whole of a request."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Iterator

import httpcore


class DeadlineBackend(httpcore.NetworkBackend):
    """Network backend that bounds a whole request instead of each step.

    The timeouts of an HTTP client bound a single read or write: a server
    that sends one byte per second never exceeds them. Here each step gets
    the time left until the deadline of the request that its thread works on,
    including name resolution and every address of a host.

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
    def within(self, seconds: float) -> Iterator[None]:
        """Sets this thread's deadline for the block.

        Inside of another such block the earlier deadline counts.
        """
        outer = getattr(self._local, "end", None)
        end = time.monotonic() + seconds
        self._local.end = end if outer is None else min(outer, end)
        try:
            yield
        finally:
            self._local.end = outer

    def remaining(self, error: type[Exception]) -> float:
        """Returns the seconds left; raises `error` where there are none."""
        end = getattr(self._local, "end", None)
        if end is None:  # closing, outside of any request
            return 1.0
        seconds = end - time.monotonic()
        if seconds <= 0:
            raise error("The time for the whole request is over.")
        return seconds

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
                    self.remaining(httpcore.ConnectTimeout),
                    local_address,
                    socket_options,
                )
            except httpcore.ConnectError as error:
                failed = error
            else:
                return DeadlineStream(stream, self)
        raise failed

    def _addresses(self, host, port):
        """Returns a host's addresses."""
        # In a thread: the system's resolver takes no timeout.
        answer = queue.SimpleQueue()

        def resolve():
            try:
                infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                answer.put([info[4][0] for info in infos])
            except (OSError, UnicodeError) as error:
                answer.put(error)

        seconds = self.remaining(httpcore.ConnectTimeout)
        threading.Thread(target=resolve, daemon=True).start()
        try:
            addresses = answer.get(timeout=seconds)
        except queue.Empty:
            raise httpcore.ConnectTimeout(
                f"'{host}' was not resolved in time."
            ) from None
        if isinstance(addresses, Exception):
            raise httpcore.ConnectError(str(addresses)) from addresses
        return addresses


class DeadlineStream(httpcore.NetworkStream):
    """Stream whose every step gets the time left until the deadline."""

    def __init__(self, stream, backend):
        self._stream = stream
        self._backend = backend

    def read(self, max_bytes, timeout=None):
        """Reads the next bytes."""
        seconds = self._backend.remaining(httpcore.ReadTimeout)
        return self._stream.read(max_bytes, seconds)

    def write(self, buffer, timeout=None):
        """Sends all bytes."""
        # `SyncStream.write` would give each `send` the whole timeout.
        connection = self._stream.get_extra_info("socket")
        rest = memoryview(buffer)
        try:
            while rest:
                connection.settimeout(
                    self._backend.remaining(httpcore.WriteTimeout)
                )
                rest = rest[connection.send(rest) :]
        except TimeoutError as error:
            raise httpcore.WriteTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    def start_tls(self, ssl_context, server_hostname=None, timeout=None):
        """Returns the same stream under TLS."""
        seconds = self._backend.remaining(httpcore.ConnectTimeout)
        stream = self._stream.start_tls(ssl_context, server_hostname, seconds)
        return DeadlineStream(stream, self._backend)

    def close(self):
        """Closes the socket."""
        self._stream.close()

    def get_extra_info(self, info):
        """Returns information as `httpcore.NetworkStream` does."""
        return self._stream.get_extra_info(info)
