"""A gRPC connection that is made anew after it was lost."""

import contextlib
import threading


class GrpcChannel:
    """Calls that connect when they need to, as HTTP clients do.

    A gRPC channel that has lost its server tries again by itself, at longer
    and longer intervals, and fails every call in between at once, though the
    server may be back. When to ask again is the circuit breaker's to say, so
    a lost channel is left to the calls that are still under way on it, and
    the next call makes another.

    Args:
        connect: function that returns a new `grpc.Channel`.
        methods: dict of name to the arguments of `Channel.unary_unary`.
        lost: function from `grpc.RpcError` to bool, whether a call failed
            with its connection.
    """

    def __init__(self, connect, methods, lost):
        self._connect = connect
        self._methods = methods
        self._lost = lost
        self._lock = threading.Lock()
        self._current = None
        self._closed = False

    def call(self, name, request, **options):
        """Calls a method, on a connection that is not known to be lost.

        Args:
            name: str, one of `methods`.
            request: message.
            **options: of the call, such as `timeout`.

        Returns:
            The answer's message.

        Raises:
            grpc.RpcError: the call failed.
            ValueError: this object was closed.
        """
        with self._held() as one:
            try:
                return one.methods[name](request, **options)
            except Exception as error:
                if self._lost(error):
                    self._leave(one)
                raise

    def close(self):
        """Closes the connection, and ends the calls on it."""
        with self._lock:
            self._closed = True
            one, self._current = self._current, None
        if one is not None:
            one.channel.close()

    @contextlib.contextmanager
    def _held(self):
        with self._lock:
            if self._closed:
                raise ValueError("it was closed")
            if self._current is None:
                self._current = _Connection(self._connect(), self._methods)
            one = self._current
            one.calls += 1
        try:
            yield one
        finally:
            with self._lock:
                one.calls -= 1
                last = one.left and not one.calls
            if last:
                one.channel.close()

    def _leave(self, one):
        with self._lock:
            one.left = True
            if self._current is one:
                self._current = None


class _Connection:
    def __init__(self, channel, methods):
        self.channel = channel
        self.methods = {
            name: channel.unary_unary(*arguments)
            for name, arguments in methods.items()
        }
        self.calls = 0
        self.left = False
