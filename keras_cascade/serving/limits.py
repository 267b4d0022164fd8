"""How much the server takes at once."""

import dataclasses

MEBIBYTE = 2**20


@dataclasses.dataclass(frozen=True)
class Limits:
    """The server's limits. Beyond each a request is refused, at once.

    Args:
        max_batch: int, rows in one run of the teacher, and so in one
            request. Defaults to `256`.
        max_delay: float, seconds that a request may wait for others to share
            its run, while the teacher is idle. With 0 a batch is what
            arrived while the one before it ran. Defaults to `0.0`.
        max_queued_rows: int or `None`, rows that may wait. Defaults to
            `None`: eight batches, and no fewer than 1024 rows.
        max_request_bytes: int, size of one request. Defaults to 64 MiB.
        max_bytes_in_flight: int or `None`, of all requests that are being
            read or answered, over HTTP. Defaults to `None`: 16 requests of
            the largest size.
        max_connections: int, HTTP connections, and gRPC calls. Defaults to
            `1024`.
        body_seconds: float, for a request's body to arrive. Defaults to
            `60.0`.
        drain_seconds: float, for requests in flight to be answered when the
            server is told to stop. Defaults to `30.0`.
    """

    max_batch: int = 256
    max_delay: float = 0.0
    max_queued_rows: int | None = None
    max_request_bytes: int = 64 * MEBIBYTE
    max_bytes_in_flight: int | None = None
    max_connections: int = 1024
    body_seconds: float = 60.0
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
