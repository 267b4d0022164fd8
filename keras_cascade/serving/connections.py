"""Table of open HTTP connections: who waits for what, since when."""

import collections
import functools
import ipaddress
import time

#: Phases of a connection. `HEAD`: from the accepted socket, TLS handshake
#: included, to a whole request head. `BODY`: since its last bytes. `ANSWER`:
#: the client waits for the server. `WRITE`: the client does not read its
#: response. `REFUSED`: the rest of a refused request is on its way. `IDLE`:
#: between two requests; `KEPT`: the same, after a request of the model was
#: answered. `CLOSING`: closed by the server, not yet by the client.
HEAD, BODY, ANSWER, WRITE, REFUSED, IDLE, KEPT, CLOSING = PHASES = (
    "head", "body", "answer", "write", "refused", "idle", "kept", "closing",
)  # fmt: skip
REQUESTS = (BODY, ANSWER, WRITE)
#: Which connections make room for a new one: phase, silent for at least so
#: many seconds. Those that a well-behaved client hardly has come first; an
#: idle one costs its client a new connection, the others a request.
VICTIMS = (
    (REFUSED, 0.0), (CLOSING, 1.0), (WRITE, 5.0), (HEAD, 1.0), (BODY, 5.0),
    (IDLE, 0.0), (BODY, 1.0), (WRITE, 1.0), (KEPT, 5.0), (HEAD, 0.0),
    (KEPT, 0.0),
)  # fmt: skip
MANY_HEADS = 8


class ConnectionTable:
    """Phases of all connections, their timeouts, and who makes room.

    Within a phase the client with the most connections makes room, with the
    one that has been silent longest: a client that opens many silences its
    own ones only.

    Args:
        total: int, connections at a time.
        per_client: int, connections of one client address.
        requests: int, requests at a time: connections whose head has arrived
            and whose response has not left.
        seconds: dict of phase to timeout in seconds. Phases without one last
            as long as they last.
        clock: function that returns seconds. Defaults to `time.monotonic`.

    Attributes:
        closed: `collections.Counter` of the reasons why the server closed
            connections.
    """

    def __init__(
        self, total, per_client, requests, seconds, clock=time.monotonic
    ):
        self.total = total
        self.per_client = per_client
        self.max_requests = requests
        self.closed = collections.Counter()
        self._seconds = seconds
        self._clock = clock
        self._entries = {}  # connection -> (client, phase)
        self._clients = {}  # client -> number of connections
        # phase -> client -> connection -> since; the oldest ones first
        self._phases = {phase: {} for phase in PHASES}
        self._sizes = dict.fromkeys(PHASES, 0)

    def __len__(self):
        return len(self._entries)

    @property
    def requests(self):
        """Number of requests that are being read or answered."""
        return sum(self._sizes[phase] for phase in REQUESTS)

    def size(self, phase):
        """Returns the number of connections in a phase."""
        return self._sizes[phase]

    @property
    def head_seconds(self):
        """Timeout for a head, TLS handshake included."""
        return self._seconds[HEAD]

    def of_client(self, client):
        """Returns the number of a client's connections."""
        return self._clients.get(client, 0)

    def add(self, connection, client):
        """Adds a connection that was accepted; its phase is `HEAD`."""
        self._clients[client] = self.of_client(client) + 1
        self._insert(connection, client, HEAD)

    def enter(self, connection, phase):
        """Begins a phase, or the same phase anew."""
        entry = self._entries.get(connection)
        if entry is not None:
            self._take_out(connection, *entry)
            self._insert(connection, entry[0], phase)

    def remove(self, connection):
        """Removes a connection that is closed; a second time does nothing."""
        entry = self._entries.pop(connection, None)
        if entry is None:
            return
        client = entry[0]
        self._take_out(connection, *entry)
        self._clients[client] -= 1
        if not self._clients[client]:
            del self._clients[client]

    def expired(self):
        """Returns the connections whose phase has timed out.

        Returns:
            List of `(connection, phase)`.
        """
        now = self._clock()
        expired = []
        for phase, seconds in self._seconds.items():
            for connections in self._phases[phase].values():
                for connection, since in connections.items():
                    if now - since < seconds:
                        break
                    expired.append((connection, phase))
        return expired

    def victim(self, rules=VICTIMS, client=None):
        """Returns the connection to close for a new one.

        Args:
            rules: tuples of phase and seconds of silence, the first choice
                first. Defaults to `VICTIMS`.
            client: optional, looks among this client's connections only.

        Returns:
            Connection, or `None` where every one has a request in progress.
        """
        now = self._clock()
        for phase, seconds in rules:
            clients = self._phases[phase]
            if client is not None:
                connections = clients.get(client)
            else:
                connections = max(clients.values(), key=len, default=None)
            if not connections:
                continue
            connection, since = next(iter(connections.items()))
            many = phase is HEAD and len(connections) > MANY_HEADS
            if many or now - since >= seconds:
                return connection
        return None

    def count_closed(self, reason):
        """Counts a connection that the server closed of its own accord."""
        self.closed[reason] += 1

    def _insert(self, connection, client, phase):
        self._entries[connection] = (client, phase)
        self._phases[phase].setdefault(client, {})[connection] = self._clock()
        self._sizes[phase] += 1

    def _take_out(self, connection, client, phase):
        clients = self._phases[phase]
        connections = clients[client]
        del connections[connection]
        if not connections:
            del clients[client]
        self._sizes[phase] -= 1


def client_of(address):
    """Returns the client of a socket address, as far as limits distinguish.

    An IPv6 client has a network of 2^64 addresses to itself.

    Args:
        address: tuple of host, port, and more, as `accept` returns it.
    """
    return _client_of(address[0])


@functools.lru_cache(4096)
def _client_of(text):
    host = ipaddress.ip_address(text.partition("%")[0])
    if host.version == 4:
        return str(host)
    if host.ipv4_mapped is not None:
        return str(host.ipv4_mapped)
    return str(ipaddress.ip_network((host, 64), strict=False))
