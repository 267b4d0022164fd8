"""Base class of teachers behind a network, and validation of their answers."""

from __future__ import annotations

import abc
import contextlib
import ipaddress
import math
import os
import threading
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from keras_cascade.errors import TeacherError
from keras_cascade.utils.answer_form import fits, row_sizes
from keras_cascade.utils.forks import reset_in_child
from keras_cascade.utils.numpy_top_k import dense_logits

if TYPE_CHECKING:
    from keras_cascade.runtime.teachers.teacher_identity import TeacherIdentity

TIMEOUT = 10.0
MAX_ROWS = 256
MAX_BYTES = 32 * 1024 * 1024
#: Of an answer, as JSON, with its share of brackets and white space.
BYTES_PER_NUMBER = 32
ENCRYPTED = ("https://", "grpcs://")
#: The header that reports a `RowCounter`'s count to the server.
ROWS_HEADER = "x-cascade-rows"
#: The header and, over gRPC, the metadata key that carry `Bundle`'s
#: `teacher_identity` in every answer; in the messages of Open Inference
#: Protocol v2 it is the parameter `IDENTITY_PARAMETER`.
IDENTITY_HEADER = "x-cascade-teacher"
IDENTITY_PARAMETER = "teacher"
#: The header that carries the client's remaining time in seconds, as a
#: decimal number. gRPC has its own deadline.
TIMEOUT_HEADER = "x-request-timeout"
#: The header that asks for the k largest logits of a row. Servers that do not
#: know it answer with all of them.
TOP_K_HEADER = "x-cascade-top-k"
#: Names of the three parts of an answer of the k largest logits.
TOP_K_OUTPUTS = ("logits", "classes", "rest")
#: The server does not take larger counts.
MAX_COUNT = 10**9 - 1


class RemoteTeacher(abc.ABC):
    """Asks a teacher in requests of a bounded size.

    A batch is cut into requests of at most `max_rows` rows, and a request
    that is longer than `max_request_bytes` in two, down to single rows.

    Args:
        url: str, where the teacher is.
        classes: int, how many logits a row must have; or a tuple of the
            sizes of a row, `None` where any is right.
        output: str, the model's output name. Defaults to `"logits"`.
        timeout: float, seconds for one whole request. Defaults to `10.0`.
        max_rows: int, rows in one request. Defaults to `256`.
        token: str or `None`. Sent as `Authorization: Bearer`. Defaults to
            `None`.
        ca_file: path or `None`. PEM certificates to trust in place of the
            system's. Defaults to `None`.
        max_request_bytes: int. Defaults to 32 MiB.
        max_response_bytes: int, longer answers are not read. Defaults to
            `None`: 32 MiB, over HTTP 64 KiB and `1024 + 64 * classes` bytes
            per row where that is less.
        client_cert: path or `None`. PEM certificate of this client, with its
            chain, for servers that ask for one (mutual TLS). Defaults to
            `None`.
        client_key: path or `None`. PEM private key of `client_cert`. Defaults
            to `None`: it is in the same file.
        identity: `TeacherIdentity` that the teacher must have, or `None`.
            Defaults to `None`: any teacher is accepted.
        top_k: int or `None`. Asks for the k largest logits of a row alone,
            for thousands of classes; see `logits`. A server that does not
            know how answers with all. Defaults to `None`: all.

    Attributes:
        row_counter: `RowCounter` or `None`. Where a device counts its rows,
            requests report them to the server, in the header
            `x-cascade-rows`.
    """

    def __init__(
        self,
        url: str,
        classes: int | tuple[int | None, ...],
        output: str = "logits",
        timeout: float = TIMEOUT,
        max_rows: int = MAX_ROWS,
        *,
        token: str | None = None,
        ca_file: str | os.PathLike | None = None,
        max_request_bytes: int = MAX_BYTES,
        max_response_bytes: int | None = None,
        client_cert: str | os.PathLike | None = None,
        client_key: str | os.PathLike | None = None,
        identity: TeacherIdentity | None = None,
        top_k: int | None = None,
    ):
        limits = {
            "timeout": timeout,
            "max_rows": max_rows,
            "max_request_bytes": max_request_bytes,
            "max_response_bytes": max_response_bytes,
            "top_k": top_k,
        }
        for name, value in limits.items():
            if value is not None and not value > 0:
                raise ValueError(f"Expected `{name} > 0`. Received: {value}.")
        if token is not None and not (token.isascii() and token.isprintable()):
            raise ValueError(
                "Expected `token` to be one line of ASCII characters. "
                "Received something else; is there a line break in its file?"
            )
        if client_key is not None and client_cert is None:
            raise ValueError(
                "Expected `client_cert` to go with `client_key`. Received the "
                "key alone."
            )
        if client_cert is not None and not url.startswith(ENCRYPTED):
            raise ValueError(
                "Expected a URL with https:// or grpcs:// to go with "
                f"`client_cert`. Received: '{url}'."
            )
        self.url = url
        self.timeout = timeout
        self.row_counter = None
        self._sizes = row_sizes(classes)
        if top_k is not None and len(self._sizes) != 1:
            raise ValueError(
                "Expected a teacher of classes, with one axis of logits a row, "
                f"for `top_k={top_k}`. Received: {len(self._sizes)} axes."
            )
        self._classes = self._sizes[-1]
        self._output = output
        self._max_rows = max_rows
        self._token = token
        self._ca_file = ca_file
        self._max_request_bytes = max_request_bytes
        self._max_response_bytes = max_response_bytes
        self._client_cert = client_cert
        self._client_key = client_key
        self._identity = identity
        self._top_k = top_k
        self._prepare()

    @abc.abstractmethod
    def check(self) -> None:
        """Raises a `TeacherError` unless the model is ready to answer.

        With a `TeacherIdentity` the model must be the bundle's teacher.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Closes the connections."""

    @abc.abstractmethod
    def _prepare(self):
        """Checks the URL and creates the client; opens no connection yet."""

    @abc.abstractmethod
    def _encoded(self, inputs):
        """Returns a request, and its size in bytes."""

    @abc.abstractmethod
    def _answered(self, request, rows):
        """Sends a request; returns the output, not validated yet."""

    def logits(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Asks for the logits of a batch.

        Where the server answers with the k largest logits, these and the
        others' share of the softmax are the teacher's; the other classes
        get equal logits, which share it evenly.

        Args:
            inputs: dict of input name to array, batch first.

        Returns:
            float32 array `(rows, classes)`.

        Raises:
            TeacherError: no answer, or one that failed validation.
        """
        parts = [
            self._validated(self._answered(request, rows), rows)
            for request, rows in self._requests(inputs)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _requests(self, inputs):
        """Yields the requests that a batch is cut into, and their rows."""
        rows = len(next(iter(inputs.values())))
        step = self._rows_at_once()
        for start in range(0, rows, step):
            end = min(rows, start + step)
            yield from self._cut(inputs, start, end)

    def _rows_at_once(self):
        """Rows of a request; fewer where their answers have many numbers."""
        if len(self._sizes) == 1 or None in self._sizes:
            return self._max_rows
        numbers = math.prod(size or 1 for size in self._sizes)
        most = max(1, MAX_BYTES // (BYTES_PER_NUMBER * numbers))
        return min(self._max_rows, most)

    def _cut(self, inputs, start, end):
        part = {name: array[start:end] for name, array in inputs.items()}
        request, size = self._encoded(part)
        if size <= self._max_request_bytes:
            yield request, end - start
            return
        if end - start == 1:
            raise TeacherError(
                f"One example takes {size} bytes on the wire, more than "
                f"`max_request_bytes={self._max_request_bytes}`. Pass a "
                "larger one.",
                about_input=True,
            )
        middle = (start + end) // 2
        yield from self._cut(inputs, start, middle)
        yield from self._cut(inputs, middle, end)

    def _validated(self, answer, rows):
        if isinstance(answer, dict) and self._top_k is not None:
            return validate_top_k(answer, rows, self._classes, self._top_k)
        return validate_logits(answer, rows, self._sizes)

    @contextlib.contextmanager
    def _reported(self, rows):
        """Surrounds a request; yields its headers.

        They ask for the k largest logits, and report counted rows.
        """
        headers = {}
        if self._top_k is not None and self._top_k < self._classes:
            headers[TOP_K_HEADER] = str(self._top_k)
        if self.row_counter is None:
            yield headers
            return
        with self.row_counter.reported(rows) as count:
            yield {**headers, ROWS_HEADER: str(count)}

    def _warn_of_open_token(self, host, encrypted):
        if self._token is None or encrypted or is_this_machine(host):
            return
        warnings.warn(
            f"The token for {self.url} travels without encryption: whoever "
            "sees the traffic can use it. Use https:// or grpcs://.",
            stacklevel=4,
        )


class RowCounter:
    """Counts the rows of a device until a request reports them. Thread-safe.

    A teacher's server sees delegated rows only. With the number of all rows
    it can state which share is delegated. Each row is reported once: those of
    a request with it, the others with the next request that is answered.

    Example:

    >>> from keras_cascade.runtime.teachers.remote_teacher import RowCounter
    >>> counter = RowCounter()
    >>> counter.add(7)
    >>> with counter.reported(rows=3) as count:
    ...     count
    10
    >>> with counter.reported(rows=2) as count:
    ...     count
    2
    """

    def __init__(self):
        self.reset_in_child()
        reset_in_child(self)

    def reset_in_child(self) -> None:
        """Starts at zero: a forked child's parent reports its own rows."""
        self._lock = threading.Lock()
        self._unreported = 0

    def add(self, rows: int) -> None:
        """Counts rows that no request carries."""
        with self._lock:
            self._unreported += rows

    @contextlib.contextmanager
    def reported(self, rows: int) -> Iterator[int]:
        """Surrounds a request; where it raises, its count is kept for later.

        Args:
            rows: int, rows of the request.

        Yields:
            int, these rows and the unreported ones.
        """
        with self._lock:
            taken = min(self._unreported, MAX_COUNT - rows)
            self._unreported -= taken
        try:
            yield rows + taken
        except BaseException:
            self.add(taken)
            raise


def validate_logits(
    answer, rows: int, classes: int | tuple[int | None, ...]
) -> np.ndarray:
    """Validates a teacher's answer and converts it to float32.

    Args:
        answer: array-like, the teacher's answer.
        rows: int, rows of the request.
        classes: int, logits per row; or a tuple of the sizes of a row,
            `None` where any is right.

    Returns:
        float32 array `(rows, classes)`, finite.

    Raises:
        TeacherError: not numbers, another shape, NaN or infinity.
    """
    sizes = row_sizes(classes)
    try:
        values = np.asarray(numbers_of(answer, 1 + len(sizes)))
        if values.dtype.kind not in "iuf":
            raise TypeError(f"values of type {values.dtype}")
        with np.errstate(over="ignore"):
            logits = values.astype("float32")
    except (MemoryError, OverflowError, TypeError, ValueError) as error:
        raise TeacherError(
            "Expected the teacher to answer with numbers. Received something "
            f"else ({type(error).__name__}: {str(error)[:200]}).",
            invalid_answer=True,
        ) from error
    if not fits(logits.shape, (rows, *sizes)):
        raise TeacherError(
            f"Expected logits of shape {(rows, *sizes)} from the teacher. "
            f"Received: {logits.shape}.",
            invalid_answer=True,
        )
    if not np.isfinite(logits).all():
        raise TeacherError(
            "The teacher answered NaN or infinity.", invalid_answer=True
        )
    return logits


def validate_top_k(answer, rows: int, classes: int, top_k: int) -> np.ndarray:
    """Validates an answer of the k largest logits, and makes it dense.

    Args:
        answer: dict of array-likes: `logits` and `classes`, of shape
            `(rows, top_k)`, and `rest`, of shape `(rows,)`.
        rows: int, rows of the request.
        classes: int, number of classes.
        top_k: int.

    Returns:
        float32 array `(rows, classes)`, finite.

    Raises:
        TeacherError: a part is missing or is not valid.
    """
    if not set(TOP_K_OUTPUTS) <= answer.keys():
        raise TeacherError(
            f"Expected {list(TOP_K_OUTPUTS)} in an answer of the {top_k} "
            f"largest logits. Received: {sorted(answer)[:5]}.",
            invalid_answer=True,
        )
    logits = validate_logits(answer["logits"], rows, top_k)
    rest = answer["rest"]
    if isinstance(rest, list):
        rest = [[value] for value in rest]
    elif isinstance(rest, np.ndarray):
        rest = rest.reshape(-1, 1)
    rest = validate_logits(rest, rows, 1)[:, 0]
    # As float32, which holds every class up to 2^24.
    index = validate_logits(answer["classes"], rows, top_k)
    ordered = np.sort(index, axis=1)
    if (
        (index != np.floor(index)).any()
        or (ordered[:, 0] < 0).any()
        or (ordered[:, -1] >= classes).any()
        or (ordered[:, 1:] == ordered[:, :-1]).any()
    ):
        raise TeacherError(
            f"Expected {top_k} different classes from 0 to {classes - 1} for "
            "each row of the teacher's answer. Received others.",
            invalid_answer=True,
        )
    return dense_logits(logits, index.astype("int32"), rest, classes)


def numbers_of(answer, axes: int = 2):
    """Rejects lists whose array would be far larger than they are.

    NumPy gives every string of a list the length of its longest.

    Args:
        answer: list of numbers, or of lists of numbers; anything else is
            returned as it is.
        axes: int, how deep lists may be. Defaults to `2`.

    Raises:
        TypeError: a list of other values.
        ValueError: lists of different lengths.
    """
    if not isinstance(answer, (list, tuple)):
        return answer
    if axes > 2 and all(isinstance(row, (list, tuple)) for row in answer):
        for row in answer:
            numbers_of(row, axes - 1)
        return answer
    kinds: set = set()
    lengths: set = set()
    for row in answer:
        is_list = isinstance(row, (list, tuple))
        kinds.update(map(type, row) if is_list else (type(row),))
        lengths.add(len(row) if is_list else None)
    unusable = sorted(one.__name__ for one in kinds & {str, bytes, dict, bool})
    if unusable or kinds & {list, tuple}:
        raise TypeError(f"values of type {', '.join(unusable) or 'list'}")
    if len(lengths) > 1 and not kinds - {int, float}:
        raise ValueError("rows of different lengths")
    return answer


def is_this_machine(host: str) -> bool:
    """Returns `True` where a host is the machine that this runs on."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
