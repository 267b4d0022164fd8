"""Connections of one port among the descriptors of this process."""

import asyncio
import collections
import os
import socket
import stat
import struct
import time

from keras_cascade.serving.connections import client_of

FOLDER = "/proc/self/fd"
#: Offset of `tcpi_last_data_recv` in Linux's `struct tcp_info`, milliseconds.
LAST_DATA_RECEIVED = 52
TCP_INFO = getattr(socket, "TCP_INFO", None)
#: Descriptors looked at between two turns of the event loop.
AT_A_TIME = 256

Connection = collections.namedtuple(
    "Connection", "descriptor client port silent"
)


class DescriptorSockets:
    """Finds connections that a library holds without listing them.

    Linux only. A descriptor is looked up once and then recognised by its
    inode, and a connection's silence is measured only where it matters: a
    sweep over some thousand descriptors takes the event loop milliseconds,
    in parts.

    Attributes:
        port: int or `None`, the local port of the connections.
    """

    supported = TCP_INFO is not None and os.path.isdir(FOLDER)

    def __init__(self):
        self.port = None
        # descriptor -> inode, `Connection` or `None`, when it was measured
        self._found = {}

    def count_descriptors(self):
        """Returns the number of descriptors, of any kind."""
        return len(os.listdir(FOLDER))

    async def refresh(self):
        """Looks new descriptors up and forgets those that are closed.

        Returns:
            Seconds that it held the event loop, all parts together.
        """
        found, seconds, start = {}, 0.0, time.monotonic()
        for number, name in enumerate(os.listdir(FOLDER), 1):
            descriptor = int(name)
            entry = self._entry(descriptor)
            if entry is not None:
                found[descriptor] = entry
            if not number % AT_A_TIME:
                seconds += time.monotonic() - start
                await asyncio.sleep(0)
                start = time.monotonic()
        self._found = found
        return seconds + time.monotonic() - start

    def connections(self):
        """Returns a list of `Connection`, as of the last `refresh`.

        `silent` is an upper bound: as if nothing had arrived since.
        """
        now = time.monotonic()
        return [
            one._replace(silent=one.silent + now - since)
            for _, one, since in self._found.values()
            if one is not None
        ]

    def measure(self, connection):
        """Returns a connection as it is now; `None` if it is gone."""
        _, now = _look_up(connection.descriptor, self.port)
        if now is None or now[:3] != connection[:3]:
            return None
        return now

    def _entry(self, descriptor):
        try:
            status = os.fstat(descriptor)
        except OSError:  # closed meanwhile
            return None
        entry = self._found.get(descriptor)
        if entry is not None and entry[0] == status.st_ino:
            return entry
        if not stat.S_ISSOCK(status.st_mode):
            return status.st_ino, None, 0.0
        inode, connection = _look_up(descriptor, self.port)
        return inode, connection, time.monotonic()


def shut_down(connection):
    """Shuts a connection down.

    Args:
        connection: `Connection`.

    Returns:
        bool, `False` where it is gone already.
    """
    try:
        # The descriptor may be another one's by now; its duplicate is not.
        with _duplicate(connection.descriptor) as found:
            address = found.getpeername()
            peer = client_of(address), address[1]
            if peer != (connection.client, connection.port):
                return False
            found.shutdown(socket.SHUT_RDWR)
    except OSError:
        return False
    return True


def _duplicate(descriptor):
    """Returns a socket of its own for a descriptor's connection."""
    # With a family it asks the kernel for none. Addresses name their own, and
    # those of IPv6 have room for both.
    return socket.socket(
        socket.AF_INET6, socket.SOCK_STREAM, 0, os.dup(descriptor)
    )


def _look_up(descriptor, port):
    """Returns a descriptor's inode and `Connection`; `None` for other ones."""
    try:
        with _duplicate(descriptor) as connection:
            inode = os.fstat(connection.fileno()).st_ino
            local = connection.getsockname()
            if not isinstance(local, tuple) or local[1] != port:
                return inode, None
            address = connection.getpeername()
            info = connection.getsockopt(
                socket.IPPROTO_TCP, TCP_INFO, LAST_DATA_RECEIVED + 4
            )
    except OSError:  # it listens, is closed meanwhile, or is no socket
        return None, None
    (silent,) = struct.unpack_from("I", info, LAST_DATA_RECEIVED)
    client = client_of(address)
    return inode, Connection(descriptor, client, address[1], silent / 1000)
