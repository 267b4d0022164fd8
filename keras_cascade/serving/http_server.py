"""HTTP/1.1 server: Uvicorn with low latency and without signal handlers."""

import asyncio
import contextlib
import logging
import socket

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

QUICK_ACK = getattr(socket, "TCP_QUICKACK", None)  # Linux


class HttpServer(uvicorn.Server):
    """Uvicorn server with an event for its start and no signal handlers.

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
        """Leaves signals alone; Uvicorn's handler would end the process."""
        yield

    async def startup(self, sockets=None):
        """Starts to listen, then sets `listening`."""
        await super().startup(sockets)
        self.listening.set()


class QuickAckProtocol(H11Protocol):
    """HTTP/1.1 protocol without Nagle's algorithm and delayed ACKs.

    Uvicorn writes a response's head and body apart: without `TCP_NODELAY`
    the body is held back until the client's kernel acknowledges the head.
    asyncio sets it on some sockets only (not on those that were created
    without naming the protocol).

    In the other direction, a client that writes head and body apart, on a
    socket with Nagle's algorithm, sends the body only when the head is
    acknowledged. The server's kernel delays that by 40 ms, to send it with
    the response, for which the server needs the body. `TCP_QUICKACK` is not
    permanent, so it is set again with each packet.
    """

    def connection_made(self, transport):
        """Sets `TCP_NODELAY` on the new connection."""
        super().connection_made(transport)
        self._socket = transport.get_extra_info("socket")
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data):
        """Has the packet acknowledged at once, then reads it."""
        if QUICK_ACK is not None:
            with contextlib.suppress(OSError):  # closed by the client
                self._socket.setsockopt(socket.IPPROTO_TCP, QUICK_ACK, 1)
        super().data_received(data)


def http_server(app, limits, tls=None):
    """Creates the server; `serve(sockets)` runs it.

    Args:
        app: ASGI application.
        limits: `Limits`.
        tls: tuple of the certificate's path and its key's, or `None`.

    Returns:
        `HttpServer`.
    """
    certificate, key = tls or (None, None)
    # Uvicorn warns of each client that breaks off or sends no HTTP.
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
