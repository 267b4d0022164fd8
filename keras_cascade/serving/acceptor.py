"""Accepts HTTP connections within limits, in place of `asyncio.Server`."""

import asyncio
import contextlib

from keras_cascade.serving.connections import client_of
from keras_cascade.serving.server_log import log

RETRY_SECONDS = 0.1
FULL_SECONDS = 0.01
TLS_SHUTDOWN_SECONDS = 5.0


class Acceptor:
    """Accepts one connection at a time and closes another one for it.

    asyncio's own server accepts whatever waits, up to thousands at once, and
    stops for a second when the descriptors are used up. This one stays below
    its limits: the connection that has been silent longest makes room.

    Args:
        listening: bound socket.
        make_protocol: function that returns a `GuardedProtocol`.
        table: `ConnectionTable`.
        tls: optional `ssl.SSLContext`.
        backlog: int, connections that the kernel lets wait.

    Attributes:
        tls: the context of the next connections.
    """

    def __init__(self, listening, make_protocol, table, tls, backlog):
        self.tls = tls
        self._listening = listening
        self._make_protocol = make_protocol
        self._table = table
        self._loop = asyncio.get_running_loop()
        self._connecting = set()
        listening.setblocking(False)
        listening.listen(backlog)
        self._task = self._loop.create_task(self._run())

    def close(self):
        """Stops accepting; open connections stay."""
        self._task.cancel()
        for task in self._connecting:
            task.cancel()

    async def wait_closed(self):
        """Waits until nothing is accepted any more."""
        await asyncio.gather(
            self._task, *self._connecting, return_exceptions=True
        )

    async def _run(self):
        while True:
            try:
                await self._accept()
                # `sock_accept` does not yield while connections wait.
                await asyncio.sleep(0)
            except ConnectionAbortedError:  # gone while it waited
                continue
            except OSError as error:
                log("error", "accept_failed", why=str(error))
                self._make_room("no descriptors left")
                await asyncio.sleep(RETRY_SECONDS)
            except Exception as error:  # the server's own fault: accept others
                log("error", "accept_failed", exc_info=error)
                await asyncio.sleep(RETRY_SECONDS)

    async def _accept(self):
        connection, address = await self._loop.sock_accept(self._listening)
        try:
            while len(self._table) >= self._table.total:
                if not self._make_room("room for another"):
                    # Every one has a request in progress.
                    await asyncio.sleep(FULL_SECONDS)
            self._admit(connection, client_of(address))
        except BaseException:
            connection.close()
            raise

    def _admit(self, connection, client):
        table = self._table
        if table.of_client(client) >= table.per_client and not self._make_room(
            "client has too many", client
        ):
            table.count_closed("client has too many")
            connection.close()
            return
        protocol = self._make_protocol()
        table.add(protocol, client)
        protocol.connecting = self._loop.create_task(
            self._connect(protocol, connection)
        )
        self._connecting.add(protocol.connecting)

        def finish(task):  # also of one that was cancelled before it began
            self._connecting.discard(task)
            if protocol.transport is None:
                table.remove(protocol)
                connection.close()

        protocol.connecting.add_done_callback(finish)

    def _make_room(self, reason, client=None):
        victim = self._table.victim(client=client)
        if victim is None:
            return False
        self._table.count_closed(reason)
        victim.cut()
        return True

    async def _connect(self, protocol, connection):
        secure = {}
        if self.tls is not None:
            secure = {
                "ssl": self.tls,
                "ssl_handshake_timeout": self._table.head_seconds,
                "ssl_shutdown_timeout": TLS_SHUTDOWN_SECONDS,
            }
        with contextlib.suppress(OSError):  # no TLS, no certificate, or gone
            await self._loop.connect_accepted_socket(
                lambda: protocol, connection, **secure
            )
