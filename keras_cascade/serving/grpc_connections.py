"""gRPC connections: who is silent, and who makes room for a new one."""

import asyncio
import collections
import math
import time
from urllib.parse import unquote

from keras_cascade.serving.connections import client_of
from keras_cascade.serving.descriptor_sockets import (
    DescriptorSockets,
    shut_down,
)
from keras_cascade.serving.server_log import log

#: Between two sweeps, and while more than half of the limit is open.
SWEEP_SECONDS, BUSY_SECONDS = 0.05, 0.01
LOG_SECONDS = 1.0
#: Of the event loop's time, at most, for sweeps; more where it is urgent,
#: with more than three quarters of the limit open.
SWEEP_SHARE = 0.3
#: While more than half of the limit is open, connections without a call in
#: progress are closed after so much silence, down to a quarter; then, if
#: there are too many younger ones, after less, down to half. Those of clients
#: that the model has answered stay longer, and go only if nobody else is left.
STRANGER_SECONDS, URGENT_SECONDS, KNOWN_SECONDS = 0.1, 0.02, 5.0


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
        self._closed = 0  # and not logged yet
        self._logged = -LOG_SECONDS

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
            held = await self._sweep()
            seconds = SWEEP_SECONDS if held is None else BUSY_SECONDS
            await asyncio.sleep(max(seconds, (held or 0.0) / SWEEP_SHARE))

    async def _sweep(self):
        """Makes room.

        Returns:
            Seconds that it held the event loop, 0 if it was urgent, `None` if
            there was room.
        """
        number = self.sockets.count_descriptors() - self._count_others()
        if number <= self._limit // 2:
            self._log_closed()
            return None
        known = set(self._known)  # answers go on during the refresh
        held, start = await self.sockets.refresh(), time.monotonic()
        self._known -= known - {
            (one.client, one.port) for one in self.sockets.connections()
        }
        self._closed += sum(shut_down(victim) for victim in self.victims())
        self._log_closed()
        if number > self._limit * 3 // 4:
            return 0.0
        return held + time.monotonic() - start

    def _log_closed(self):
        """Logs how many were closed, once a second."""
        now = time.monotonic()
        if self._closed and now - self._logged >= LOG_SECONDS:
            log("warning", "grpc_connections_closed", number=self._closed)
            self._closed, self._logged = 0, now

    def victims(self):
        """Returns the connections to close now."""
        connections = self.sockets.connections()
        if len(connections) <= self._limit // 2:
            return []
        sizes = collections.Counter(one.client for one in connections)

        def order(one):
            known = (one.client, one.port) in self._known
            return known, -sizes[one.client], -one.silent

        victims = {}
        ordered = sorted(connections, key=order)
        for keep, stranger, known in (
            (self._limit // 4, STRANGER_SECONDS, math.inf),
            (self._limit // 2, URGENT_SECONDS, KNOWN_SECONDS),
        ):
            surplus = len(connections) - len(victims) - keep
            for one in ordered:
                if surplus <= 0:
                    break
                if one in victims or not self._may_go(one, stranger, known):
                    continue
                now = self.sockets.measure(one)
                if now is not None and self._may_go(now, stranger, known):
                    victims[one] = None
                    surplus -= 1
        return list(victims)

    def _may_go(self, one, stranger, known):
        key = one.client, one.port
        if key in self._calls:
            return False
        return one.silent >= (known if key in self._known else stranger)


def _key(peer):
    host, _, port = unquote(peer).partition(":")[2].rpartition(":")
    return client_of((host.strip("[]"),)), int(port)
