"""Where the server listens."""

import dataclasses
import ipaddress
import socket
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Address:
    """Host, ports and certificate.

    Args:
        host: str. Defaults to `"127.0.0.1"`, which other machines cannot
            reach.
        port: int, for HTTP; 0 for any free one. Defaults to `8501`.
        grpc_port: int, or 0 for any free one. Defaults to `8001`.
        tls: tuple of the certificate's path (PEM, with its chain) and its
            key's, or `None`. Defaults to `None`.
    """

    host: str = "127.0.0.1"
    port: int = 8501
    grpc_port: int = 8001
    tls: tuple | None = None

    def __post_init__(self):
        if self.tls is None:
            return
        if None in self.tls:
            raise ValueError(
                "Expected both a certificate and its key. Received one. Pass "
                "--tls-cert and --tls-key together."
            )
        for path in self.tls:
            if not Path(path).is_file():
                raise ValueError(f"Expected a PEM file. There is no '{path}'.")

    @property
    def shown_host(self):
        """The host as a URL has it."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def local(self):
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def bind(self):
        """Takes the HTTP port, without listening on it yet.

        Returns:
            Socket.

        Raises:
            OSError: the address cannot be listened on.
        """
        with self._bound(self.grpc_port, "--grpc-port"):
            pass  # gRPC binds it again, when the teacher is loaded
        return self._bound(self.port, "--port")

    def _bound(self, port, option):
        try:
            (*kind, _, where), *_ = socket.getaddrinfo(
                self.host, port, type=socket.SOCK_STREAM
            )
            bound = socket.socket(*kind)
            try:
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                bound.bind(where)
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
