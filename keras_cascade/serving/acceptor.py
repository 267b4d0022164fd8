"""Accepts HTTP connections within limits, in place of `asyncio.Server`."""

import asyncio
import contextlib

from keras_cascade.serving.connections import client_of
from keras_cascade.serving.server_log import log

RETRY_SECONDS = 0.1
FULL_SECONDS = 0.01
TLS_SHUTDOWN_SECONDS = 5.0
#: Connections accepted in one turn of the event loop.
AT_A_TIME = 64


class Acceptor:
    """Accepts connections; the newest is read first, the most silent closed.

    asyncio's own server accepts whatever waits and stops for a second when
    the descriptors are used up. This one stays below its limits: the
    connection that has been silent longest makes room.

    Accepting costs little, so all that wait are accepted; reading costs more,
    so one connection begins per turn of the event loop, the newest first.
    While more arrive than can be read, those that come last, whose clients
    still wait, are answered without delay. In the order of arrival everyone
    would wait for the whole queue.

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
        self._held = None  # connection and client, accepted, without room
        self._arrivals = []  # `_Arrival`, the newest last
        self._begun = None  # handle of the next `_begin`
        self._resumed = None  # handle of the next `_resume`
        self._connecting = set()
        listening.setblocking(False)
        listening.listen(backlog)
        self._listen()

    def close(self):
        """Stops accepting; open connections stay."""
        self._loop.remove_reader(self._listening)
        for handle in (self._begun, self._resumed):
            if handle is not None:
                handle.cancel()
        for arrival in self._arrivals:
            arrival.cut()
        if self._held is not None:
            self._held[0].close()
        for task in self._connecting:
            task.cancel()

    async def wait_closed(self):
        """Waits until no connection is being made any more."""
        await asyncio.gather(*self._connecting, return_exceptions=True)

    def _listen(self):
        self._loop.add_reader(self._listening, self._accept_waiting)

    def _pause(self, seconds):
        self._loop.remove_reader(self._listening)
        self._resumed = self._loop.call_later(seconds, self._resume)

    def _resume(self):
        if self._held is None or self._admit_held():
            self._listen()
        else:
            self._pause(FULL_SECONDS)

    def _accept_waiting(self):
        for _ in range(AT_A_TIME):
            try:
                connection, address = self._listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:  # gone while it waited
                continue
            except OSError as error:
                log("error", "accept_failed", why=str(error))
                self._make_room("no descriptors left")
                self._pause(RETRY_SECONDS)
                return
            self._held = connection, client_of(address)
            if not self._admit_held():
                self._pause(FULL_SECONDS)
                return

    def _admit_held(self):
        """Admits the accepted connection; `False` while there is no room."""
        if len(self._table) >= self._table.total and not self._make_room(
            "room for another"
        ):  # every one has a request in progress
            return False
        held, self._held = self._held, None
        self._admit(*held)
        return True

    def _admit(self, connection, client):
        table = self._table
        if table.of_client(client) >= table.per_client and not self._make_room(
            "client has too many", client
        ):
            table.count_closed("client has too many")
            connection.close()
            return
        arrival = _Arrival(connection, client, table)
        table.add(arrival, client)
        self._arrivals.append(arrival)
        if self._begun is None:
            self._begun = self._loop.call_soon(self._begin)

    def _begin(self):
        """Begins to read the newest connection."""
        self._begun = None
        while self._arrivals:
            arrival = self._arrivals.pop()
            if not arrival.is_cut:
                break
        else:
            return
        if self._arrivals:
            self._begun = self._loop.call_soon(self._begin)
        self._table.remove(arrival)
        try:
            protocol = self._make_protocol()
        except Exception as error:  # the server's own fault: begin others
            log("error", "accept_failed", exc_info=error)
            arrival.connection.close()
            return
        self._table.add(protocol, arrival.client)
        protocol.connecting = self._loop.create_task(
            self._connect(protocol, arrival.connection)
        )
        self._connecting.add(protocol.connecting)

        def finish(task):  # also of one that was cancelled before it began
            self._connecting.discard(task)
            if protocol.transport is None:
                self._table.remove(protocol)
                arrival.connection.close()

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


class _Arrival:
    """Accepted socket that nothing has been read from.

    Args:
        connection: socket.
        client: str, as `client_of` returns it.
        table: `ConnectionTable`.
    """

    __slots__ = ("_table", "client", "connection", "is_cut")

    def __init__(self, connection, client, table):
        self.connection = connection
        self.client = client
        self.is_cut = False
        self._table = table

    def cut(self):
        """Ends the connection at once."""
        self.is_cut = True
        self._table.remove(self)
        self.connection.close()

    def expire(self, phase):
        """Ends the connection after a timeout."""
        self.cut()
