"""What the server keeps of one request, for its metrics and its log."""

import time

from keras_cascade.serving.request_error import RequestError
from keras_cascade.serving.server_log import log, request_id

#: A client's count of the rows its edge has seen since its last request
#: that was answered, those of this request among them.
EDGE_ROWS = "x-cascade-rows"


class RequestRecord:
    """What is known of one request besides its content.

    Args:
        protocol: str: `"v1"`, `"v2_http"`, `"v2_grpc"` or `"other"`.
        given_id: str or `None`, the client's `x-request-id`.

    Attributes:
        rows: int, rows that were answered.
        edge_rows: int or `None`, what the client says of its edge.
        bytes: int, bytes of the body that are held.
    """

    def __init__(self, protocol, given_id=None):
        self.protocol = protocol
        self.id = request_id(given_id)
        self.rows = 0
        self.edge_rows = None
        self.bytes = 0
        self._began = time.perf_counter()

    def read_edge_rows(self, header):
        """Reads the header `x-cascade-rows`."""
        if header is None:
            return
        if not (header.isascii() and header.isdigit() and len(header) < 10):
            raise RequestError(
                400,
                f"Expected '{EDGE_ROWS}' to be a whole number below 10^9. "
                f"Received: {header[:30]!r}.",
            )
        self.edge_rows = int(header)

    def close(self, status, metrics, error=None):
        """Counts the request and writes it into the log.

        Args:
            status: int or str, as the protocol has it.
            metrics: `ServerMetrics`.
            error: exception that was the server's own fault. Defaults to
                `None`.
        """
        seconds = time.perf_counter() - self._began
        metrics.requests.labels(self.protocol, str(status)).inc()
        if self.protocol != "other":
            metrics.request_seconds.labels(self.protocol).observe(seconds)
            metrics.rows.labels(self.protocol).inc(self.rows)
        if self.rows and self.edge_rows is not None:
            metrics.reported_edge_rows.inc(self.edge_rows)
            metrics.reported_rows.inc(self.rows)
        log(
            "error" if error else "info",
            "request",
            exc_info=error,
            id=self.id,
            protocol=self.protocol,
            status=status,
            rows=self.rows,
            seconds=round(seconds, 6),
        )
