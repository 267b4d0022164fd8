"""Uvicorn, as this server needs it."""

import asyncio
import contextlib
import logging
import socket

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

QUICK_ACK = getattr(socket, "TCP_QUICKACK", None)  # Linux


class HttpServer(uvicorn.Server):
    """Leaves signals to whoever runs it, and says when it listens.

    Args:
        config: `uvicorn.Config`.

    Attributes:
        listening: `asyncio.Event`.
    """

    def __init__(self, config):
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self):
        """Nothing: Uvicorn's own would end the process by the signal."""
        yield

    async def startup(self, sockets=None):
        """Starts to listen."""
        await super().startup(sockets)
        self.listening.set()


class QuickAckProtocol(H11Protocol):
    """HTTP/1.1 that never waits for an acknowledgement, nor makes one wait.

    Uvicorn writes an answer's head and body apart: without `TCP_NODELAY` the
    body stays until the client's kernel acknowledges the head. asyncio sets
    it on some sockets only (not on those that were made without naming the
    protocol). The other way round, a client that writes head and body apart,
    on a socket with Nagle's algorithm, sends the body only when the head is
    acknowledged. A kernel delays that by 40 ms, hoping to send it with the
    answer, for which the server needs the body. It forgets that it should
    not, so it is told again with each packet.
    """

    def connection_made(self, transport):
        """Keeps the socket."""
        super().connection_made(transport)
        self._socket = transport.get_extra_info("socket")
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data):
        """Acknowledges, then reads."""
        if QUICK_ACK is not None:
            with contextlib.suppress(OSError):  # closed by the client
                self._socket.setsockopt(socket.IPPROTO_TCP, QUICK_ACK, 1)
        super().data_received(data)


def http_server(app, limits, tls=None):
    """Makes the server; `serve(sockets)` runs it.

    Args:
        app: ASGI application.
        limits: `Limits`.
        tls: tuple of the certificate's path and its key's, or `None`.

    Returns:
        `HttpServer`.
    """
    certificate, key = tls or (None, None)
    # It warns of each client that breaks off or sends no HTTP.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    return HttpServer(
        uvicorn.Config(
            app,
            http=QuickAckProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=limits.max_connections,
            timeout_keep_alive=65,  # longer than a usual proxy's 60
            timeout_graceful_shutdown=int(limits.drain_seconds),
            ssl_certfile=certificate,
            ssl_keyfile=key,
        )
    )
