"""Acceptor: the order in which connections that wait are read."""

import asyncio
import contextlib
import errno
import socket

from keras_cascade.serving import connections as phases
from keras_cascade.serving.acceptor import AT_A_TIME, Acceptor
from keras_cascade.serving.connections import ConnectionTable

SECONDS = {phases.HEAD: 30.0}


class Recorder(asyncio.Protocol):
    """Protocol that tells who was connected, in which order."""

    def __init__(self, made, transports):
        self._made, self._transports = made, transports
        self.transport = self.connecting = None

    def connection_made(self, transport):
        self.transport = transport
        self._transports.append(transport)
        self._made.append(transport.get_extra_info("peername")[1])

    def cut(self):
        self.transport.abort()


class FailingSocket:
    """Listening socket whose `accept` raises before it accepts."""

    def __init__(self, listening, errors):
        self._listening, self._errors = listening, errors

    def __getattr__(self, name):
        return getattr(self._listening, name)

    def accept(self):
        if self._errors:
            raise self._errors.pop()
        return self._listening.accept()


def accept(number, total=100, per_client=100, errors=()):
    """Connects clients, then accepts them.

    Returns:
        Ports of the clients, ports in the order of their beginning, table.
    """
    made, transports = [], []

    async def run(listening, expected):
        table = ConnectionTable(total, per_client, total, SECONDS)
        acceptor = Acceptor(
            FailingSocket(listening, list(errors)),
            lambda: Recorder(made, transports),
            table,
            None,
            100,
        )
        while len(made) < expected:
            await asyncio.sleep(0)
        acceptor.close()
        await acceptor.wait_closed()
        for transport in transports:
            transport.abort()
        await asyncio.sleep(0)  # they close in the next turn
        return table

    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(
            socket.create_server(("127.0.0.1", 0), backlog=100)
        )
        ports = [
            stack.enter_context(
                socket.create_connection(listening.getsockname())
            ).getsockname()[1]
            for _ in range(number)
        ]
        expected = min(number, total, per_client)
        table = asyncio.run(run(listening, expected))
    return ports, made, table


def test_the_newest_of_those_that_wait_is_read_first():
    ports, made, _ = accept(20)
    assert made == ports[::-1]


def test_all_are_read_in_the_end():
    """More than are accepted in one turn."""
    ports, made, _ = accept(AT_A_TIME + 9)
    assert sorted(made) == sorted(ports)


def test_the_oldest_make_room_before_they_are_read():
    ports, made, table = accept(30, total=10)
    assert made == ports[:-11:-1]
    assert table.closed == {"room for another": 20}


def test_of_one_client_the_oldest_make_room():
    ports, made, table = accept(30, per_client=12)
    assert made == ports[:-13:-1]
    assert table.closed == {"client has too many": 18}


def test_an_error_of_one_does_not_stop_the_others():
    """Without descriptors it tries again soon; what is gone is passed over."""
    ports, made, _ = accept(
        3,
        errors=[
            OSError(errno.EMFILE, "Too many open files"),
            ConnectionAbortedError(),
        ],
    )
    assert sorted(made) == sorted(ports)
