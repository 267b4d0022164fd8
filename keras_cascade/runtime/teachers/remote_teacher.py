"""What every teacher on the other side of a network has in common."""

import abc
import contextlib
import warnings

import numpy as np

from keras_cascade.errors import TeacherError

MEBIBYTE = 1024 * 1024
SEEN_ROWS = "x-cascade-rows"


class RemoteTeacher(abc.ABC):
    """Asks a teacher in requests of a bounded size.

    A batch is cut into requests of at most `max_rows` rows, and a request
    that is longer than `max_request_bytes` in two, down to single rows.

    Args:
        url: str, where the teacher is.
        classes: int, how many logits a row must have.
        output: str, the model's output name. Defaults to `"logits"`.
        timeout: float, seconds for one whole request. Defaults to `10.0`.
        max_rows: int, rows in one request. Defaults to `256`.
        token: str or `None`. Sent as `Authorization: Bearer`. Defaults to
            `None`.
        ca_file: path or `None`. PEM certificates to trust in place of the
            system's. Defaults to `None`.
        max_request_bytes: int. Defaults to 32 MiB.
        max_response_bytes: int, longer answers are not read. Defaults to
            32 MiB.

    Attributes:
        seen_rows: `SeenRows` or `None`. Where an edge counts what it sees,
            requests tell the server, in the header `x-cascade-rows`.
    """

    def __init__(
        self,
        url,
        classes,
        output="logits",
        timeout=10.0,
        max_rows=256,
        *,
        token=None,
        ca_file=None,
        max_request_bytes=32 * MEBIBYTE,
        max_response_bytes=32 * MEBIBYTE,
    ):
        limits = {
            "timeout": timeout,
            "max_rows": max_rows,
            "max_request_bytes": max_request_bytes,
            "max_response_bytes": max_response_bytes,
        }
        for name, value in limits.items():
            if not value > 0:
                raise ValueError(f"Expected `{name} > 0`. Received: {value}.")
        if token is not None and not (token.isascii() and token.isprintable()):
            raise ValueError(
                "Expected `token` to be one line of ASCII characters. "
                "Received something else; is there a line break in its file?"
            )
        self.url = url
        self.timeout = timeout
        self.seen_rows = None
        self._classes = classes
        self._output = output
        self._max_rows = max_rows
        self._token = token
        self._ca_file = ca_file
        self._max_request_bytes = max_request_bytes
        self._max_response_bytes = max_response_bytes

    @abc.abstractmethod
    def check(self):
        """Raises a `TeacherError` unless the model is ready to answer."""

    @abc.abstractmethod
    def close(self):
        """Closes the connections."""

    @abc.abstractmethod
    def _encoded(self, inputs):
        """A request, and how many bytes it has."""

    @abc.abstractmethod
    def _answered(self, request, rows):
        """Sends a request; believed logits `(rows, classes)`."""

    def logits(self, inputs):
        """Asks for the logits of a batch.

        Args:
            inputs: dict of input name to array, batch first.

        Returns:
            float32 array `(rows, classes)`.

        Raises:
            TeacherError: no answer, or one that cannot be believed.
        """
        rows = len(next(iter(inputs.values())))
        parts = []
        for start in range(0, rows, self._max_rows):
            parts += self._asked(
                inputs, start, min(rows, start + self._max_rows)
            )
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _asked(self, inputs, start, end):
        part = {name: array[start:end] for name, array in inputs.items()}
        request, size = self._encoded(part)
        if size <= self._max_request_bytes:
            return [self._answered(request, end - start)]
        if end - start == 1:
            raise TeacherError(
                f"One example takes {size} bytes on the wire, more than "
                f"`max_request_bytes={self._max_request_bytes}`. Pass a "
                "larger one.",
                about_input=True,
            )
        middle = (start + end) // 2
        first = self._asked(inputs, start, middle)
        return first + self._asked(inputs, middle, end)

    @contextlib.contextmanager
    def _told(self, rows):
        """Surrounds a request: headers that say what the edge has seen."""
        if self.seen_rows is None:
            yield {}
            return
        with self.seen_rows.told(rows) as count:
            yield {SEEN_ROWS: str(count)}

    def _warn_of_open_token(self, encrypted, here):
        if self._token is not None and not encrypted and not here:
            warnings.warn(
                f"The token for {self.url} travels without encryption: whoever "
                "sees the traffic can use it. Use https:// or grpcs://.",
                stacklevel=3,
            )
