"""Settings of the server: address, limits and bearer tokens."""

import dataclasses
import hashlib
import hmac
import ipaddress
import socket
from pathlib import Path

from keras_cascade.serving.request_error import RequestError
from keras_cascade.serving.tls import TlsFiles

MEBIBYTE = 2**20
MIN_TOKEN_LENGTH = 16


@dataclasses.dataclass(frozen=True)
class Address:
    """Host, ports and certificate.

    Args:
        host: str. Defaults to `"127.0.0.1"`, which other machines cannot
            reach.
        port: int, for HTTP; 0 for any free one. Defaults to `8501`.
        grpc_port: int, or 0 for any free one. Defaults to `8001`.
        tls: `TlsFiles` or `None`. Defaults to `None`.
    """

    host: str = "127.0.0.1"
    port: int = 8501
    grpc_port: int = 8001
    tls: TlsFiles | None = None

    @property
    def url_host(self):
        """Host as it is written in a URL: IPv6 addresses in brackets."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def is_local(self):
        """`True` if only this machine can reach the address."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def bind(self):
        """Binds the HTTP port, without listening on it yet.

        Returns:
            Socket.

        Raises:
            OSError: the address cannot be listened on.
        """
        with self._bound_socket(self.grpc_port, "--grpc-port"):
            pass  # gRPC binds it again, when the teacher is loaded
        return self._bound_socket(self.port, "--port")

    def _bound_socket(self, port, option):
        try:
            (*kind, _, address), *_ = socket.getaddrinfo(
                self.host, port, type=socket.SOCK_STREAM
            )
            bound = socket.socket(*kind)
            try:
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                bound.bind(address)
            except OSError:
                bound.close()
                raise
        except OSError as error:
            raise OSError(
                f"Expected an address to listen on. Received: {self.host}, "
                f"port {port}, which cannot be used "
                f"({error.strerror or error}). Choose another {option} or "
                "--host."
            ) from None
        bound.setblocking(False)
        return bound


@dataclasses.dataclass(frozen=True)
class Limits:
    """Resource limits; a request beyond one of them is rejected at once.

    Args:
        max_batch: int, rows in one run of the teacher, and so in one
            request. Defaults to `256`.
        max_delay: float, seconds that a request may wait for others to share
            its run, while the teacher is idle. With 0 a batch is what
            arrived while the one before it ran. Defaults to `0.0`.
        max_wait: float, seconds that a request may wait for its run, by the
            estimate from past runs. A request that states a shorter timeout
            is refused earlier. Defaults to `5.0`.
        max_queued_rows: int or `None`, rows that may wait. Defaults to
            `None`: eight batches, and no fewer than 1024 rows.
        max_request_bytes: int, size of one request. Defaults to 64 MiB.
        max_bytes_in_flight: int or `None`, of all requests that are being
            read or answered, over HTTP. Defaults to `None`: 16 requests of
            the largest size.
        max_connections: int, HTTP requests in progress, and gRPC calls;
            connections that send nothing are counted apart. Defaults to
            `1024`.
        max_connections_per_client: int or `None`, HTTP connections of one
            client address. Defaults to `None`: seven eighths of what the
            file descriptors allow, as many clients may share a proxy.
        head_seconds: float, timeout for the head of a request, TLS handshake
            included. Defaults to `10.0`.
        body_seconds: float, timeout for reading a request's body. Defaults
            to `60.0`.
        silent_seconds: float, timeout for a client that stops in the middle
            of a body, or does not read its response. Defaults to `20.0`.
        idle_seconds: float, timeout for a connection between two requests.
            Defaults to `65.0`, longer than a usual proxy's 60.
        drain_seconds: float, timeout for requests in flight when the server
            stops. Defaults to `30.0`.
    """

    max_batch: int = 256
    max_delay: float = 0.0
    max_wait: float = 5.0
    max_queued_rows: int | None = None
    max_request_bytes: int = 64 * MEBIBYTE
    max_bytes_in_flight: int | None = None
    max_connections: int = 1024
    max_connections_per_client: int | None = None
    head_seconds: float = 10.0
    body_seconds: float = 60.0
    silent_seconds: float = 20.0
    idle_seconds: float = 65.0
    drain_seconds: float = 30.0

    def __post_init__(self):
        for name in ("max_batch", "max_request_bytes", "max_connections"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"Expected `{name}` of at least 1. Received: "
                    f"{getattr(self, name)}."
                )
        if not 0 <= self.max_delay <= 60:
            raise ValueError(
                "Expected `max_delay` between 0 and 60 seconds. Received: "
                f"{self.max_delay}."
            )
        if not self.max_wait > 0:
            raise ValueError(
                "Expected `max_wait` of more than 0 seconds. Received: "
                f"{self.max_wait}."
            )
        if self.max_queued_rows is None:
            rows = max(8 * self.max_batch, 1024)
            object.__setattr__(self, "max_queued_rows", rows)
        if self.max_queued_rows < self.max_batch:
            raise ValueError(
                "Expected room for at least one batch, "
                f"{self.max_batch} rows, in the queue. Received: "
                f"`max_queued_rows={self.max_queued_rows}`."
            )
        if self.max_bytes_in_flight is None:
            limit = 16 * self.max_request_bytes
            object.__setattr__(self, "max_bytes_in_flight", limit)
        if self.per_client(8) < 1:
            raise ValueError(
                "Expected `max_connections_per_client` of at least 1. "
                f"Received: {self.max_connections_per_client}."
            )

    def per_client(self, total):
        """Returns how many of all connections one client may have."""
        if self.max_connections_per_client is not None:
            return self.max_connections_per_client
        return total - total // 8


class Tokens:
    """Bearer-token authorization.

    Args:
        tokens: list of str. Empty: every request is authorized.
    """

    def __init__(self, tokens=()):
        self._digests = [_digest(token.encode()) for token in tokens]

    @classmethod
    def from_file(cls, path):
        """Reads one token per line, so that an old and a new one can overlap.

        Args:
            path: path of the file, or `None` for no tokens.

        Raises:
            ValueError: no token in the file, or one that is easily guessed.
            OSError: the file cannot be read.
        """
        if path is None:
            return cls()
        text = Path(path).read_text(encoding="utf-8")
        tokens = [line.strip() for line in text.splitlines() if line.strip()]
        if not tokens or min(map(len, tokens)) < MIN_TOKEN_LENGTH:
            raise ValueError(
                f"Expected a token of at least {MIN_TOKEN_LENGTH} characters "
                f"in every line of '{path}'. Make one with "
                "`python -c 'import secrets; print(secrets.token_urlsafe())'`."
            )
        return cls(tokens)

    def __len__(self):
        return len(self._digests)

    def __bool__(self):
        return bool(self._digests)

    def check(self, authorization):
        """Raises `RequestError` unless the request carries a valid token.

        Args:
            authorization: str or `None`, the request's header.

        Raises:
            RequestError: 401, with the same message for every cause.
        """
        if not self._digests:
            return
        scheme, _, token = (authorization or "").partition(" ")
        digest = _digest(token.strip().encode("utf-8", "surrogateescape"))
        # All are compared, each in constant time: the time to an answer must
        # not say which token, or how much of it, was right. Digests, because
        # `compare_digest` shows whether two lengths differ.
        matches = [hmac.compare_digest(digest, one) for one in self._digests]
        if scheme.lower() != "bearer" or not any(matches):
            raise RequestError(
                401,
                "Expected the header 'authorization: Bearer TOKEN' with a "
                "token that this server knows. Received none.",
            )


def _digest(token):
    return hashlib.sha256(token).digest()
