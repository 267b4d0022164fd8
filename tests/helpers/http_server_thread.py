"""The teacher server's HTTP side in a thread of this process."""

import asyncio
import socket
import threading

from keras_cascade.serving.descriptors import ConnectionBudget
from keras_cascade.serving.http_application import http_application
from keras_cascade.serving.http_server import http_server


class HttpServerThread:
    """Runs the HTTP server on a free port; a context manager.

    Args:
        make_service: function that returns a `TeacherService`.
        total: int, connections at a time. Defaults to `100`.
        requests: int, requests at a time. Defaults to `50`.
        app: optional function that makes an ASGI application of a service.
            Defaults to `http_application`.
        origins: tuple of origins that the server's own errors name. Defaults
            to `()`.

    Attributes:
        port: int.
        table: the server's `ConnectionTable`.
        service: its `TeacherService`.
    """

    def __init__(
        self,
        make_service,
        total=100,
        requests=50,
        app=http_application,
        origins=(),
    ):
        self._make_service = make_service
        self._budget = ConnectionBudget(total, total, requests)
        self._app = app
        self._origins = origins
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self):
        self._thread.start()
        assert self._started.wait(30)
        return self

    def __exit__(self, *_):
        self._server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive()

    def connect(self):
        """A socket that is connected to the server."""
        return socket.create_connection(("127.0.0.1", self.port), 30)

    async def _run(self):
        self.service = self._make_service()
        self._server = http_server(
            self._app(self.service),
            self.service,
            self._budget,
            origins=self._origins,
        )
        self.table = self._server.table
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.port = listening.getsockname()[1]
            task = asyncio.create_task(self._server.serve([listening]))
            await self._server.listening.wait()
            self._started.set()
            await task
        await self.service.teacher.close()
