"""Structured log of the server: one JSON object per line, no payloads."""

import contextlib
import datetime
import json
import logging
import os
import re
import sys
import time
import traceback
import uuid

from keras_cascade.runtime.teachers.remote_teacher import (
    TIMEOUT_HEADER,
    TOP_K_HEADER,
)
from keras_cascade.serving.log_writer import LogWriter, non_blocking
from keras_cascade.serving.request_error import RequestError

LOGGER = logging.getLogger("keras_cascade.serving")
#: Loggers of the server and of its libraries, with their levels.
LOGGERS = {
    LOGGER.name: logging.INFO,
    "uvicorn": logging.WARNING,
    "grpc": logging.INFO,
    "asyncio": logging.WARNING,
}
#: Header with the number of rows that a client's edge has seen since its
#: last answered request, those of this request among them.
EDGE_ROWS = "x-cascade-rows"
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?", re.ASCII)
_PLAIN_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class RequestRecord:
    """Log record of one request: everything but its content.

    Args:
        protocol: str: `"v1"`, `"v2_http"`, `"v2_grpc"` or `"other"`.
        client_id: str or `None`, the client's `x-request-id`. Only a plain
            one is used, as it is written into the log.

    Attributes:
        id: str, the client's id or a new one.
        rows: int, rows that were answered.
        edge_rows: int or `None`, rows that the client's edge has seen.
        bytes: int, bytes of the body that are held in memory.
        teacher: str or `None`, identity of the teacher that the answer is
            about; `None` for what concerns no teacher, such as health.
        deadline: float, of `time.monotonic()`, or `None`, until when the
            client waits.
        client: str or `None`, the client's address without its port.
        top_k: int or `None`, how many logits of a row the client asks for.
    """

    def __init__(self, protocol, client_id=None):
        self.protocol = protocol
        is_plain = client_id and _PLAIN_ID.fullmatch(client_id)
        self.id = client_id if is_plain else uuid.uuid4().hex
        self.rows = 0
        self.edge_rows = None
        self.bytes = 0
        self.teacher = None
        self.deadline = None
        self.client = None
        self.top_k = None
        self._start = time.perf_counter()

    def read_edge_rows(self, header):
        """Reads the header `x-cascade-rows`.

        Args:
            header: str or `None`.

        Raises:
            RequestError: not a number of rows.
        """
        self.edge_rows = _whole_number(EDGE_ROWS, header)

    def read_top_k(self, header):
        """Reads the header `x-cascade-top-k`.

        Args:
            header: str or `None`.

        Raises:
            RequestError: not a number of logits.
        """
        self.top_k = _whole_number(TOP_K_HEADER, header)
        if self.top_k == 0:
            raise RequestError(
                400, f"Expected '{TOP_K_HEADER}' to be above 0. Received: 0."
            )

    def read_timeout(self, header):
        """Reads the header `x-request-timeout` into `deadline`.

        Args:
            header: str or `None`.

        Raises:
            RequestError: not a number of seconds.
        """
        if header is None:
            return
        if not _SECONDS.fullmatch(header) or not float(header):
            raise RequestError(
                400,
                f"Expected '{TIMEOUT_HEADER}' to be seconds, a decimal number "
                f"above 0. Received: {header[:30]!r}.",
            )
        self.deadline = time.monotonic() + float(header)

    def close(self, status, metrics, error=None):
        """Adds the request to the metrics and to the log.

        Args:
            status: int or str, as the protocol has it.
            metrics: `ServerMetrics`.
            error: exception that was the server's own fault. Defaults to
                `None`.
        """
        seconds = time.perf_counter() - self._start
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


def _whole_number(name, header):
    """Returns a header's number, `None` where there is no header."""
    if header is None:
        return None
    if not (header.isascii() and header.isdigit() and len(header) < 10):
        raise RequestError(
            400,
            f"Expected '{name}' to be a whole number below 10^9. "
            f"Received: {header[:30]!r}.",
        )
    return int(header)


class JsonFormatter(logging.Formatter):
    """Formats a log record as JSON, with its `extra={"fields": ...}`."""

    def format(self, record):
        """Returns one line of JSON."""
        created = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line = {
            "time": created.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = "".join(
                traceback.format_exception(*record.exc_info)
            )
        return json.dumps(line, default=str)


def log(level, event, exc_info=None, **fields):
    """Writes one event.

    Args:
        level: str, such as `"info"`.
        event: str, one word.
        exc_info: exception whose traceback belongs to it. Defaults to
            `None`.
        **fields: further fields of the line: numbers, names, ids.
    """
    LOGGER.log(
        logging.getLevelNamesMapping()[level.upper()],
        event,
        exc_info=exc_info,
        extra={"fields": fields},
    )


@contextlib.contextmanager
def server_logging():
    """Sends the server's log and its libraries' to standard error.

    Neither a reader that stalls nor one that is gone stops the server, and
    no client fills the disk with errors.
    """
    descriptor = _standard_error()
    with non_blocking(descriptor):
        # One of its own: loading TensorFlow diverts number 2.
        handler = LogWriter(os.dup(descriptor))
        handler.setFormatter(JsonFormatter())
        loggers = [logging.getLogger(name) for name in LOGGERS]
        for logger in loggers:
            logger.handlers = [handler]
            logger.propagate = False
            logger.setLevel(LOGGERS[logger.name])
        try:
            yield
        finally:
            for logger in loggers:
                logger.removeHandler(handler)
                logger.propagate = True
            handler.close()


def _standard_error():
    """Returns the descriptor of Python's stream, which may not be 2."""
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):  # a notebook's, a test's
        return 2
