"""gRPC connections: who is silent, and who makes room for a new one."""

import asyncio
import collections
import time
from urllib.parse import unquote

from keras_cascade.serving.connections import client_of
from keras_cascade.serving.descriptor_sockets import (
    DescriptorSockets,
    shut_down,
)
from keras_cascade.serving.server_log import log

SWEEP_SECONDS = 0.05
#: Of the event loop's time, at most, for sweeps.
SWEEP_SHARE = 0.1
#: Connections without a call in progress are closed after so much silence,
#: while more than half of the limit is open; of clients that the model has
#: answered later, and only if nobody else is left.
STRANGER_SECONDS, KNOWN_SECONDS = 0.1, 5.0


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
        sockets: `DescriptorSockets`. Defaults to `None`, a new one.

    Attributes:
        sockets: `DescriptorSockets`; its `port` is to be set.
    """

    def __init__(self, limit, count_others=None, sockets=None):
        self.sockets = sockets or DescriptorSockets()
        self._count_others = count_others or (lambda: 0)
        self._limit = limit
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
        while self.sockets.supported:
            start = time.monotonic()
            await self._sweep()
            took = time.monotonic() - start
            await asyncio.sleep(max(SWEEP_SECONDS, took / SWEEP_SHARE))

    async def _sweep(self):
        descriptors = self.sockets.count_descriptors()
        if descriptors - self._count_others() <= self._limit // 2:
            return
        await self.sockets.refresh()
        closed = sum(shut_down(victim) for victim in self.victims())
        if closed:
            log("warning", "grpc_connections_closed", number=closed)

    def victims(self):
        """Returns the connections to close now."""
        connections = self.sockets.connections()
        keys = {(one.client, one.port) for one in connections}
        self._known &= keys
        surplus = len(connections) - self._limit // 2
        if surplus <= 0:
            return []
        sizes = collections.Counter(one.client for one in connections)

        def order(one):
            known = (one.client, one.port) in self._known
            return known, -sizes[one.client], -one.silent

        victims = []
        for one in sorted(filter(self._may_go, connections), key=order):
            measured = self.sockets.measure(one)
            if measured is not None and self._may_go(measured):
                victims.append(measured)
                if len(victims) == surplus:
                    break
        return victims

    def _may_go(self, one):
        key = one.client, one.port
        if key in self._calls:
            return False
        return one.silent >= (
            KNOWN_SECONDS if key in self._known else STRANGER_SECONDS
        )


def _key(peer):
    host, _, port = unquote(peer).partition(":")[2].rpartition(":")
    return client_of((host.strip("[]"),)), int(port)
