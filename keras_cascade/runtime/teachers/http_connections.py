"""Keep-alive HTTP connections, each used by one thread at a time."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpcore

from keras_cascade.utils.forks import reset_in_child


@dataclasses.dataclass(frozen=True, slots=True)
class HttpAnswer:
    """Answer to one HTTP request, of any status.

    Attributes:
        status: int.
        headers: dict of lower-case name to value.
        content: bytes, whole.
    """

    status: int
    headers: dict[str, str]
    content: bytes


class AnswerTooLongError(Exception):
    """An answer of status 200 is longer than the limit."""


class HttpConnection:
    """One connection: `exchange` sends a request and reads its whole answer.

    Args:
        connect: function that returns a new `httpcore.ConnectionInterface` of
            HTTP/1.1, not connected yet.

    Attributes:
        exchanges: int, answers that were read.
        proof: the teacher's proof of its identity on this connection, or
            `None`. Kept here, so that it ends with the connection.
        keep: bool. `False` closes the connection after its current use.
    """

    __slots__ = ("_connect", "_raw", "exchanges", "keep", "proof")

    def __init__(self, connect: Callable[[], httpcore.ConnectionInterface]):
        self._connect = connect
        self.renew()

    def renew(self) -> None:
        """Starts anew, without a proof, where the server ended it."""
        self._raw = self._connect()
        self.exchanges = 0
        self.keep = True
        self.proof: Any = None

    def exchange(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        body: bytes | None,
        limit: int,
        error_limit: int,
    ) -> HttpAnswer:
        """Sends a request and reads its answer.

        Args:
            method: str.
            url: str.
            headers: dict.
            body: bytes or `None`.
            limit: int, bytes of an answer of status 200.
            error_limit: int, bytes that are read of any other.

        Raises:
            AnswerTooLongError: more than `limit` bytes.
        """
        with self._raw.stream(
            method, url, headers=list(headers.items()), content=body
        ) as response:
            answer_headers = {
                name.decode("latin-1").lower(): value.decode("latin-1")
                for name, value in response.headers
            }
            ok = response.status == 200
            limit = limit if ok else min(limit, error_limit)
            content = bytearray()
            for part in response.iter_stream():
                content += part
                if len(content) > limit:
                    break
        self.exchanges += 1
        if ok and len(content) > limit:
            raise AnswerTooLongError
        return HttpAnswer(response.status, answer_headers, bytes(content))

    @property
    def reusable(self) -> bool:
        """`True` where nothing is left over after the last answer.

        Such bytes would be read as the answer of the next request.
        """
        return self.keep and self._raw.is_idle() and not self._surplus()

    @property
    def closed(self) -> bool:
        """`True` where the last answer was the last one of it."""
        return self.exchanges > 0 and not self._raw.is_available()

    @property
    def expired(self) -> bool:
        """`True` after a long idle time, or with something to read."""
        return self._raw.has_expired()

    def close(self) -> None:
        """Closes the socket."""
        self._raw.close()

    def _surplus(self):
        # httpcore has no public name for its parser, inside of one or two
        # wrappers; where it is not found, the connection is not kept.
        inner = self._raw
        while inner is not None:
            parser = getattr(inner, "_h11_state", None)
            if parser is not None:
                return bool(parser.trailing_data[0])
            inner = getattr(inner, "_connection", None)
        return True


class HttpConnections:
    """Pool of connections to one server.

    A connection belongs to one thread as long as it is leased, so that
    several requests can go over the same one. Of the idle ones the last used
    is taken first.

    Args:
        connect: function that returns a new `httpcore.ConnectionInterface`,
            not connected yet.
        limit: int, connections at a time.
    """

    def __init__(
        self, connect: Callable[[], httpcore.ConnectionInterface], limit: int
    ):
        self._connect = connect
        self._limit = limit
        self._pool = _Pool(limit)
        reset_in_child(self)

    @contextlib.contextmanager
    def lease(
        self, seconds: float, new: bool = False
    ) -> Iterator[HttpConnection]:
        """Surrounds the use of a connection; keeps it where it is in step.

        Args:
            seconds: float, to wait for one at most.
            new: bool. Takes no connection that was used before. Defaults to
                `False`.

        Raises:
            httpcore.PoolTimeout: all are in use.
        """
        pool = self._pool
        if not pool.slots.acquire(timeout=seconds):
            raise httpcore.PoolTimeout("All connections are in use.")
        connection = None
        try:
            connection = None if new else pool.idle_connection()
            if connection is None:
                connection = HttpConnection(self._connect)
            pool.leased.add(connection)
            yield connection
        finally:
            if connection is not None:
                pool.give_back(connection)
            pool.slots.release()

    def close(self) -> None:
        """Closes the idle connections, and the others after their use."""
        pool, self._pool = self._pool, _Pool(self._limit)
        pool.close()

    def reset_in_child(self) -> None:
        """Drops the parent's connections in a forked child."""
        pool, self._pool = self._pool, _Pool(self._limit)
        # Closes this process's copies of the sockets. Nothing is sent, and
        # no lock of the parent's is taken.
        for connection in (*pool.idle, *pool.leased):
            connection.close()


class _Pool:
    """Connections of one process, until `close`."""

    def __init__(self, limit):
        self.lock = threading.Lock()
        self.slots = threading.BoundedSemaphore(limit)
        self.idle: list[HttpConnection] = []
        self.leased: set[HttpConnection] = set()
        self.open = True

    def idle_connection(self):
        """Takes the last used connection; closes those that expired."""
        expired = []
        try:
            with self.lock:
                while self.idle and self.idle[0].expired:  # the oldest
                    expired.append(self.idle.pop(0))
                while self.idle:
                    connection = self.idle.pop()
                    if not connection.expired:
                        return connection
                    expired.append(connection)
            return None
        finally:
            for connection in expired:
                connection.close()

    def give_back(self, connection):
        self.leased.discard(connection)
        reusable = connection.reusable
        with self.lock:
            if reusable and self.open:
                self.idle.append(connection)
                return
        connection.close()

    def close(self):
        with self.lock:
            self.open = False
            idle, self.idle = self.idle, []
        for connection in idle:
            connection.close()
