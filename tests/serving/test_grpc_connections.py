"""GrpcConnections: which connections make room for new ones."""

import asyncio
import contextlib
import os
import socket

import pytest

from keras_cascade.serving import descriptor_sockets
from keras_cascade.serving.descriptor_sockets import (
    Connection,
    DescriptorSockets,
    shut_down,
)
from keras_cascade.serving.grpc_connections import GrpcConnections


def peer(client, port):
    return f"ipv4:{client}:{port}"


@pytest.fixture
def listed():
    return []


class Listed:
    """Sockets as a test lists them; `now` holds later measurements."""

    def __init__(self, listed):
        self._listed = listed
        self.now = {}
        self.during_refresh = []

    def connections(self):
        return self._listed

    def count_descriptors(self):
        return 100

    async def refresh(self):
        for call in self.during_refresh:
            call()
        return 0.0

    def measure(self, connection):
        return self.now.get(connection.port, connection)


@pytest.fixture
def connections(listed):
    return GrpcConnections(8, sockets=Listed(listed))


def add(listed, client, port, silent):
    listed.append(Connection(len(listed), client, port, silent))
    return listed[-1]


def test_places_are_kept_free_of_strangers(connections, listed):
    """Beyond half, down to a quarter: of the client with the most first."""
    good = add(listed, "192.0.2.1", 1, 60.0)
    theirs = [add(listed, "192.0.2.2", n, 1.0 + n) for n in range(3)]
    assert connections.victims() == []  # four of eight
    theirs += [add(listed, "192.0.2.2", n, 1.0 + n) for n in range(3, 5)]
    assert connections.victims() == theirs[:0:-1]
    assert good not in connections.victims()


def test_new_connections_have_a_tenth_of_a_second(connections, listed):
    """Fifty may be there at a time, of a hundred."""
    connections._limit = 100
    for port in range(60):
        add(listed, "192.0.2.2", port, 0.019)
    assert connections.victims() == []
    listed[:12] = [one._replace(silent=0.09) for one in listed[:12]]
    assert connections.victims() == listed[:10]
    listed[:12] = [one._replace(silent=0.1) for one in listed[:12]]
    assert connections.victims() == listed[:12]
    listed[:40] = [one._replace(silent=0.1) for one in listed[:40]]
    assert connections.victims() == listed[:35]


def test_calls_in_progress_and_known_clients_are_spared(connections, listed):
    """Also over IPv6, and beside strangers of the same address."""
    busy = add(listed, "2001:db8::/64", 1, 30.0)
    known = add(listed, "192.0.2.2", 2, 4.0)
    for port in range(3, 11):
        add(listed, "192.0.2.2", port, 1.0)
    key = connections.begin("ipv6:%5B2001:db8::5%5D:1")
    connections.end(connections.begin(peer("192.0.2.2", 2)), True)
    victims = connections.victims()
    assert len(victims) == 8 and not {busy, known} & set(victims)
    listed[1] = known._replace(silent=6.0)  # five seconds: only at the end
    assert connections.victims() == victims
    del listed[2:]
    for port in (20, 21, 22):
        add(listed, "192.0.2.3", port, 0.01)
    assert connections.victims() == [listed[1]]
    listed[1] = known
    assert connections.victims() == []
    connections.end(key, True)  # answered, and then 30 seconds of silence
    assert connections.victims() == [busy]


def test_ports_are_forgotten_with_their_connections(connections, listed):
    """Not those that are answered while the sockets are looked up."""
    connections.end(connections.begin(peer("192.0.2.2", 2)), True)
    new = connections.begin(peer("192.0.2.2", 3))
    connections.sockets.during_refresh.append(
        lambda: connections.end(new, True)
    )
    asyncio.run(connections._sweep())
    assert connections._known == {("192.0.2.2", 3)} and not connections._calls
    connections.sockets.during_refresh.clear()
    asyncio.run(connections._sweep())
    assert not connections._known


def test_silence_is_measured_again_before_a_connection_is_closed(
    connections, listed
):
    """The listed silence is an upper bound, and a socket may be gone."""
    for port in range(1, 7):
        add(listed, "192.0.2.2", port, 10.0 - port)
    assert connections.victims() == listed[:4]
    connections.sockets.now[1] = listed[0]._replace(silent=0.01)  # has sent
    connections.sockets.now[2] = None  # gone
    assert connections.victims() == listed[2:6]


@pytest.mark.parametrize("dual", [False, True])
def test_sockets_are_found_and_shut_down(dual):
    """Also where one socket listens for IPv4 and IPv6, as gRPC's does."""
    family = socket.AF_INET6 if dual else socket.AF_INET
    with socket.create_server(
        ("", 0), family=family, dualstack_ipv6=dual
    ) as listening:
        sockets = DescriptorSockets()
        sockets.port = port = listening.getsockname()[1]
        with (
            socket.create_connection(("127.0.0.1", port)) as client,
            listening.accept()[0] as accepted,
        ):
            before = sockets.count_descriptors()
            asyncio.run(sockets.refresh())
            (found,) = sockets.connections()
            assert sockets.count_descriptors() == before
            assert found.descriptor == accepted.fileno()
            assert (found.client, found.port) == (
                "127.0.0.1", client.getsockname()[1],
            )  # fmt: skip
            assert 0 <= found.silent < 60
            assert sockets.measure(found)[:3] == found[:3]
            # A descriptor that is another one's by now is left alone.
            other = found._replace(descriptor=client.fileno())
            assert sockets.measure(other) is None and not shut_down(other)
            gone = found._replace(descriptor=10**6)
            assert sockets.measure(gone) is None and not shut_down(gone)
            assert shut_down(found)
            assert client.recv(1) == b""


def test_a_descriptor_is_looked_up_once_until_it_is_another_one(monkeypatch):
    looked_up = []
    look_up = descriptor_sockets._look_up

    def counted(descriptor, port):
        looked_up.append(descriptor)
        return look_up(descriptor, port)

    monkeypatch.setattr(descriptor_sockets, "_look_up", counted)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        sockets = DescriptorSockets()
        sockets.port = port = listening.getsockname()[1]
        with contextlib.ExitStack() as stack:
            clients, accepted = [], []
            for _ in range(2):
                clients.append(
                    stack.enter_context(
                        socket.create_connection(("127.0.0.1", port))
                    )
                )
                accepted.append(stack.enter_context(listening.accept()[0]))
            asyncio.run(sockets.refresh())
            assert {one.descriptor for one in sockets.connections()} == {
                one.fileno() for one in accepted
            }
            looked_up.clear()
            asyncio.run(sockets.refresh())
            assert not {one.fileno() for one in accepted} & set(looked_up)
            # The second's descriptor becomes the first's.
            descriptor = accepted[1].fileno()
            os.dup2(accepted[0].fileno(), descriptor)
            asyncio.run(sockets.refresh())
            ports = {one.descriptor: one.port for one in sockets.connections()}
            assert ports[descriptor] == clients[0].getsockname()[1]
            assert descriptor in looked_up
