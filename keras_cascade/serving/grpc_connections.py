"""gRPC connections: who is silent, and who makes room for a new one."""

import asyncio
import collections
import os
import socket
import stat
import struct
from urllib.parse import unquote

from keras_cascade.serving.connections import client_of
from keras_cascade.serving.server_log import log

SWEEP_SECONDS = 0.05
#: Connections without a call in progress are closed after so much silence,
#: while more than half of the limit is open; of clients that the model has
#: answered later, and only if nobody else is left.
STRANGER_SECONDS, KNOWN_SECONDS = 0.1, 5.0
#: Offset of `tcpi_last_data_recv` in Linux's `struct tcp_info`, milliseconds.
LAST_DATA_RECEIVED = 52
TCP_INFO = getattr(socket, "TCP_INFO", None)

Connection = collections.namedtuple(
    "Connection", "descriptor client port silent"
)


class GrpcConnections:
    """Keeps half of the gRPC connections free for new ones.

    gRPC refuses connections beyond its limit, whoever comes, and has no way
    to close one of its choice. So the sockets are looked up among the
    process's descriptors, and those that have been silent longest are shut
    down, of the client with the most. Elsewhere than on Linux only gRPC's
    own limits apply.

    Args:
        limit: int, gRPC connections at a time.
        count_others: function that returns the number of descriptors that
            are certainly none of gRPC's. Defaults to `None`, 0.
        list_connections: function that returns a list of `Connection`.
            Defaults to `None`, the sockets of `port`.

    Attributes:
        port: int or `None`, of the gRPC server.
    """

    def __init__(self, limit, count_others=None, list_connections=None):
        self.port = None
        self._count_others = count_others or (lambda: 0)
        self._limit = limit
        self._list = list_connections or self._sockets
        self._calls = collections.Counter()  # (client, port) -> in progress
        self._known = set()

    def begin(self, peer):
        """Notes a call that is authorized; returns what `end` needs.

        Args:
            peer: str, as `context.peer()` returns it.
        """
        key = _key(peer)
        self._calls[key] += 1
        return key

    def end(self, key, answered):
        """Notes the end of a call.

        Args:
            key: as `begin` returned it.
            answered: bool, by the model.
        """
        self._calls[key] -= 1
        if not self._calls[key]:
            del self._calls[key]
        if answered:
            self._known.add(key)

    async def run(self):
        """Makes room until cancelled."""
        supported = TCP_INFO is not None and os.path.isdir("/proc/self/fd")
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            if not supported:
                continue
            descriptors = len(os.listdir("/proc/self/fd"))
            if descriptors - self._count_others() <= self._limit // 2:
                continue
            victims = self.victims()
            closed = sum(_shut_down(victim) for victim in victims)
            if closed:
                log("warning", "grpc_connections_closed", number=closed)

    def victims(self):
        """Returns the connections to close now."""
        connections = self._list()
        keys = {(one.client, one.port) for one in connections}
        self._known &= keys
        surplus = len(connections) - self._limit // 2
        if surplus <= 0:
            return []
        sizes = collections.Counter(one.client for one in connections)

        def order(one):
            known = (one.client, one.port) in self._known
            return known, -sizes[one.client], -one.silent

        idle = [
            one
            for one in connections
            if (one.client, one.port) not in self._calls
            and one.silent
            >= (
                KNOWN_SECONDS
                if (one.client, one.port) in self._known
                else STRANGER_SECONDS
            )
        ]
        return sorted(idle, key=order)[:surplus]

    def _sockets(self):
        connections = []
        for name in os.listdir("/proc/self/fd"):
            found = _look_up(int(name), self.port)
            if found is not None:
                connections.append(found)
        return connections


def _look_up(descriptor, port):
    """Returns the `Connection` of a descriptor; `None` for other ones."""
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return None
        duplicate = os.dup(descriptor)
    except OSError:  # closed meanwhile
        return None
    try:
        with socket.socket(fileno=duplicate) as connection:
            local = connection.getsockname()
            if not isinstance(local, tuple) or local[1] != port:
                return None
            address = connection.getpeername()
            info = connection.getsockopt(
                socket.IPPROTO_TCP, TCP_INFO, LAST_DATA_RECEIVED + 4
            )
    except OSError:  # it listens, or is closed
        return None
    (silent,) = struct.unpack_from("I", info, LAST_DATA_RECEIVED)
    return Connection(descriptor, client_of(address), address[1], silent / 1000)


def _shut_down(victim):
    """Shuts a connection down; 0 where it is gone already."""
    try:
        duplicate = os.dup(victim.descriptor)
    except OSError:
        return 0
    try:
        # The descriptor may be another one's by now; its duplicate is not.
        with socket.socket(fileno=duplicate) as connection:
            address = connection.getpeername()
            if (client_of(address), address[1]) != (victim.client, victim.port):
                return 0
            connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return 0
    return 1


def _key(peer):
    host, _, port = unquote(peer).partition(":")[2].rpartition(":")
    return client_of((host.strip("[]"),)), int(port)
