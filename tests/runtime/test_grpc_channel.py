"""`GrpcChannel`: a lost connection is replaced, its calls are not ended."""

import threading
from concurrent import futures

import grpc
import pytest

from keras_cascade.runtime.teachers.grpc_teacher import GrpcChannel


class LostError(Exception):
    """Stands for the `grpc.RpcError` of a lost connection."""


class ScriptedChannel:
    """A channel whose requests are functions that it calls."""

    def __init__(self):
        self.closed = False

    def unary_unary(self, path):
        assert path == "/ask"
        return lambda request, **options: request(self, **options)

    def close(self):
        self.closed = True


@pytest.fixture
def made():
    return []


@pytest.fixture
def channel(made):
    def connect():
        made.append(ScriptedChannel())
        return made[-1]

    return GrpcChannel(
        connect, {"ask": ("/ask",)}, lambda error: isinstance(error, LostError)
    )


def lose(_):
    raise LostError


def test_a_connection_is_kept(channel, made):
    assert made == []
    found = [
        channel.call("ask", lambda one, timeout: (one, timeout), timeout=3)
        for _ in range(2)
    ]
    assert found == [(made[0], 3)] * 2
    with pytest.raises(ZeroDivisionError):
        channel.call("ask", lambda _: 1 / 0)
    assert len(made) == 1
    channel.close()
    assert made[0].closed
    with pytest.raises(ValueError, match="closed"):
        channel.call("ask", lambda one: one)


def test_after_a_loss_the_next_call_connects(channel, made):
    with pytest.raises(LostError):
        channel.call("ask", lose)
    assert made[0].closed
    assert channel.call("ask", lambda one: one) is made[1]
    assert not made[1].closed


def test_calls_under_way_keep_their_connection(channel, made):
    began, end, found = threading.Event(), threading.Event(), []

    def long(one):
        began.set()
        end.wait()
        return one.closed

    thread = threading.Thread(
        target=lambda: found.append(channel.call("ask", long))
    )
    thread.start()
    began.wait()
    for _ in range(2):
        with pytest.raises(LostError):
            channel.call("ask", lose)
    # The first is still needed; the second, made for the second call, not.
    assert [one.closed for one in made] == [False, True]
    end.set()
    thread.join()
    assert found == [False]
    assert made[0].closed


def test_a_server_that_comes_back_is_found_at_once():
    """gRPC alone would wait, and fail every call meanwhile."""

    def serve(port):
        handler = grpc.method_handlers_generic_handler(
            "s",
            {"m": grpc.unary_unary_rpc_method_handler(lambda raw, _: raw * 2)},
        )
        server = grpc.server(futures.ThreadPoolExecutor(1), handlers=[handler])
        return server, server.add_insecure_port(f"127.0.0.1:{port}")

    server, port = serve(0)
    server.start()
    options = [("grpc.use_local_subchannel_pool", 1)]
    channel = GrpcChannel(
        lambda: grpc.insecure_channel(f"127.0.0.1:{port}", options),
        {"m": ("/s/m",)},
        lambda error: isinstance(error, grpc.RpcError),
    )
    assert channel.call("m", b"1", timeout=30) == b"11"
    server.stop(None).wait()
    for _ in range(5):  # each waits longer, where gRPC counts them
        with pytest.raises(grpc.RpcError) as caught:
            channel.call("m", b"1", timeout=30)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    server, again = serve(port)
    assert again == port
    server.start()
    assert channel.call("m", b"2", timeout=30) == b"22"
    channel.close()
    server.stop(None).wait()
