"""gRPC channels that are replaced after their connection was lost."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

from keras_cascade.utils.forks import reset_in_child

#: Values of GRPC_ENABLE_FORK_SUPPORT with which gRPC survives a fork.
SUPPORTED = ("1", "true", "yes")


class GrpcChannel:
    """gRPC channel that is replaced after its connection was lost.

    A `grpc.Channel` that has lost its server reconnects by itself, at longer
    and longer intervals, and fails every call in between at once, though the
    server may be back. Here the circuit breaker decides when to ask again: a
    lost channel serves only the calls that are under way on it, and the next
    call creates another.

    Args:
        connect: function that returns a new `grpc.Channel`.
        methods: dict of name to the arguments of `Channel.unary_unary`.
        lost: function from an error to bool; `True` where the call failed
            with its connection.
        watched: bool. Replaces a channel also when it lost its connection
            between two calls, where gRPC alone would connect again without
            saying so. Defaults to `False`.
    """

    def __init__(self, connect, methods, lost, watched: bool = False):
        self._connect = connect
        self._methods = methods
        self._lost = lost
        self._watched = watched
        self._lock = threading.Lock()
        self._current: GrpcConnection | None = None
        self._closed = False
        reset_in_child(self)

    def call(self, name: str, request, **options: Any):
        """Calls a method, on a connection that is not known to be lost.

        Args:
            name: str, one of `methods`.
            request: message.
            **options: of the call, such as `timeout`.

        Returns:
            The answer's message.

        Raises:
            grpc.RpcError: the call failed.
            ValueError: this object was closed, or gRPC cannot be used here.
        """
        with self.connection() as connection:
            return connection.methods[name](request, **options)

    @contextlib.contextmanager
    def connection(self) -> Iterator[GrpcConnection]:
        """Surrounds calls that need the same connection.

        Raises:
            ValueError: this object was closed, or gRPC cannot be used here.
        """
        with self._lock:
            if self._closed:
                raise ValueError("it was closed")
            lost = self._current
        if lost is not None and not lost.steady:
            self.replace(lost)
        with self._lock:
            if self._current is None:
                _uses.check()
                self._current = GrpcConnection(
                    self._connect(), self._methods, self._watched
                )
            connection = self._current
            connection.calls += 1
        try:
            yield connection
        except Exception as error:
            if self._lost(error):
                self.replace(connection)
            raise
        finally:
            with self._lock:
                connection.calls -= 1
                unused = connection.replaced and not connection.calls
            if unused:
                connection.channel.close()

    def replace(self, connection: GrpcConnection) -> None:
        """Lets later calls create another channel."""
        with self._lock:
            connection.replaced = True
            if self._current is connection:
                self._current = None
            unused = not connection.calls
        if unused:
            connection.channel.close()

    def close(self) -> None:
        """Closes the connection and ends the calls on it."""
        with self._lock:
            self._closed = True
            connection, self._current = self._current, None
        if connection is not None:
            connection.channel.close()

    def reset_in_child(self) -> None:
        """Drops the parent's channel in a forked child, without closing it."""
        self._lock = threading.Lock()
        if self._current is not None:
            _uses.inherited.append(self._current)
            self._current = None


class GrpcConnection:
    """Channel that serves as long as its first connection.

    Args:
        channel: `grpc.Channel`.
        methods: dict of name to the arguments of `Channel.unary_unary`.
        watched: bool, whether to notice that it lost its connection.

    Attributes:
        methods: dict of name to function.
        proof: the teacher's proof of its identity on it, or `None`.
    """

    def __init__(self, channel, methods, watched):
        self.channel = channel
        self.methods = {
            name: channel.unary_unary(*arguments)
            for name, arguments in methods.items()
        }
        self.proof: Any = None
        self.calls = 0
        self.replaced = False
        self._lost = False
        self._was_ready = False
        self._watched = watched
        self._decided = threading.Event()
        if watched:
            channel.subscribe(self._changed, try_to_connect=True)

    @property
    def steady(self) -> bool:
        """`False` where it lost the connection that it had at first."""
        return not self._lost

    def wait(self, seconds: float) -> None:
        """Waits for the first connection, or its failure, where watched.

        A loss is noticed from then on.
        """
        if self._watched:
            self._decided.wait(seconds)

    def unwatch(self) -> None:
        """Stops watching: each answer says whose it is."""
        if self._watched:
            self._watched = False
            self.channel.unsubscribe(self._changed)

    def _changed(self, state):
        if state.name == "READY":
            self._was_ready = True
        elif self._was_ready:
            self._lost = True
        if state.name not in ("IDLE", "CONNECTING"):
            self._decided.set()


class _Uses:
    """Use of gRPC by this process and those it was forked from."""

    def __init__(self):
        self.inherited: list[GrpcConnection] = []
        self._used = False
        self._inherited_use = False
        reset_in_child(self)

    def check(self):
        """Raises where the threads that gRPC needs are another process's."""
        if self._inherited_use:
            raise ValueError(
                "this process was forked from one that had used gRPC, which "
                "does not survive that. Use an http:// URL, or start "
                "processes with multiprocessing's 'spawn' or 'forkserver', "
                "or set GRPC_ENABLE_FORK_SUPPORT=1 before the parent starts"
            )
        self._used = True

    def reset_in_child(self):
        value = os.environ.get("GRPC_ENABLE_FORK_SUPPORT", "")
        if self._used and value.lower() not in SUPPORTED:
            self._inherited_use = True


_uses = _Uses()
