"""GrpcConnections: which connections make room for new ones."""

import os
import socket

import pytest

from keras_cascade.serving import grpc_connections
from keras_cascade.serving.grpc_connections import Connection, GrpcConnections


def peer(client, port):
    return f"ipv4:{client}:{port}"


@pytest.fixture
def listed():
    return []


@pytest.fixture
def connections(listed):
    return GrpcConnections(8, list_connections=lambda: listed)


def add(listed, client, port, silent):
    listed.append(Connection(len(listed), client, port, silent))
    return listed[-1]


def test_half_of_the_places_are_kept_free_of_strangers(connections, listed):
    """Of the client with the most, those silent longest."""
    good = add(listed, "192.0.2.1", 1, 60.0)
    theirs = [add(listed, "192.0.2.2", n, 1.0 + n) for n in range(3)]
    assert connections.victims() == []  # four of eight
    theirs += [add(listed, "192.0.2.2", n, 1.0 + n) for n in range(3, 5)]
    assert connections.victims() == [theirs[4], theirs[3]]
    assert good not in connections.victims()


def test_new_connections_have_a_tenth_of_a_second(connections, listed):
    for port in range(8):
        add(listed, "192.0.2.2", port, 0.09)
    assert connections.victims() == []


def test_calls_in_progress_and_known_clients_are_spared(connections, listed):
    """Also over IPv6, and beside strangers of the same address."""
    busy = add(listed, "2001:db8::/64", 1, 30.0)
    known = add(listed, "192.0.2.2", 2, 4.0)
    for port in range(3, 11):
        add(listed, "192.0.2.2", port, 1.0)
    key = connections.begin("ipv6:%5B2001:db8::5%5D:1")
    connections.end(connections.begin(peer("192.0.2.2", 2)), True)
    victims = connections.victims()
    assert len(victims) == 6 and not {busy, known} & set(victims)
    listed[1] = known._replace(silent=6.0)  # five seconds: only at the end
    assert connections.victims() == victims
    del listed[2:]
    for port in (20, 21, 22):
        add(listed, "192.0.2.3", port, 0.05)
    assert connections.victims() == [listed[1]]
    listed[1] = known
    assert connections.victims() == []
    connections.end(key, True)  # answered, and then 30 seconds of silence
    assert connections.victims() == [busy]


def test_ports_are_forgotten_with_their_connections(connections, listed):
    connections.end(connections.begin(peer("192.0.2.2", 2)), True)
    assert connections.victims() == []
    assert not connections._known and not connections._calls


def test_sockets_are_found_and_shut_down():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        connections = GrpcConnections(2)
        connections.port = port
        with (
            socket.create_connection(("127.0.0.1", port)) as client,
            listening.accept()[0] as accepted,
        ):
            before = len(os.listdir("/proc/self/fd"))
            (found,) = connections._sockets()
            assert len(os.listdir("/proc/self/fd")) == before
            assert found.descriptor == accepted.fileno()
            assert (found.client, found.port) == (
                "127.0.0.1", client.getsockname()[1],
            )  # fmt: skip
            assert 0 <= found.silent < 60
            # A descriptor that is another one's by now is left alone.
            other = found._replace(descriptor=client.fileno())
            assert grpc_connections._shut_down(other) == 0
            gone = found._replace(descriptor=10**6)
            assert grpc_connections._shut_down(gone) == 0
            assert grpc_connections._shut_down(found) == 1
            assert client.recv(1) == b""
