"""Rows of the queue in memory, checked against their checksums."""

from __future__ import annotations

import dataclasses
import hashlib
import struct

import numpy as np

from keras_cascade.runtime.queueing.dead_letter import DeadLetter
from keras_cascade.runtime.queueing.packed_arrays import unpack_arrays


@dataclasses.dataclass(frozen=True, eq=False)
class QueuedRow:
    """A delegated example of the queue, with its answer where there is one.

    Attributes:
        id: str, the row's name in predictions.
        inputs: dict of input name to array, without a batch axis. Text is a
            `str` in an array of dtype `object`.
        score: float, the gate's.
        probabilities: float32 array `(classes,)`, the student's; of another
            task its answer; `None` of a damaged row.
        operating_point: str.
        tries: int, how often the teacher failed on this row alone.
        logits: float32 array `(classes,)`, the teacher's, or `None`.
        error_message: str or `None`, why the row is a dead letter.
    """

    id: str
    inputs: dict[str, np.ndarray]
    score: float
    probabilities: np.ndarray | None
    operating_point: str
    tries: int = 0
    logits: np.ndarray | None = None
    error_message: str | None = None


def checksum(*parts: str | bytes | float | None) -> bytes:
    """Computes the checksum of some columns of a row.

    A blob of each column, with its type and its length before it, goes through
    BLAKE2b.

    Args:
        *parts: the columns, as they are stored.

    Returns:
        16 bytes.

    Raises:
        TypeError: a column of another type, which no checksum covers.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        if type(part) is bytes:
            raw = part
        elif type(part) is str:
            raw = part.encode("utf-8")
        elif type(part) is float:
            raw = struct.pack("<d", part)
        elif part is None:
            raw = b""
        else:
            raise TypeError(f"{type(part).__name__} in a row's column")
        digest.update(type(part).__name__.encode("ascii"))
        digest.update(struct.pack("<q", len(raw)))
        digest.update(raw)
    return digest.digest()


def checksum_or_none(*parts: str | bytes | float | None) -> bytes | None:
    """Returns the columns' checksum; `None` of columns that have none."""
    try:
        return checksum(*parts)
    except (TypeError, UnicodeEncodeError):
        return None


def unpack_or_none(raw: bytes, count: int) -> list[np.ndarray] | None:
    """Unpacks the bytes of `pack_arrays`; `None` of bytes that are not."""
    try:
        return unpack_arrays(raw, count)
    # Whatever NumPy's parser of headers raises on noise.
    except Exception:
        return None


class StoredRow:
    """A row of the file, whose bytes may be damaged.

    Args:
        record: tuple of `COLUMNS`.
        names: list of the inputs' names.

    Attributes:
        seq: int, the row's number.
        id: str.
        reason: str of a dead letter, or `None`.
        inputs: dict of input name to array; `None` where the row is damaged.
        damaged_part: str or `None`, `"content"` or `"answer"`.
    """

    def __init__(self, record: tuple, names: list[str]):
        (
            self.seq, self.id, self._raw, self._score, probabilities,
            self._point, self._tries, logits, self.reason, self._message,
            row_sum, answer_sum,
        ) = record  # fmt: skip
        # No checksum covers it: it changes, and no label depends on it.
        self._tries = self._tries if isinstance(self._tries, int) else 0
        self.inputs = self._probabilities = self._logits = None
        self.damaged_part: str | None = "content"
        content = (self._raw, self._score, probabilities, self._point)
        if row_sum is not None and row_sum == checksum_or_none(
            self.id, *content
        ):
            arrays = unpack_or_none(self._raw, len(names))
            flat = unpack_or_none(probabilities, 1)
            if arrays is not None and flat is not None:
                self.inputs = dict(zip(names, arrays, strict=True))
                self._probabilities = flat[0]
                self.damaged_part = None
        if self.damaged_part is None and logits is not None:
            answer = None
            if answer_sum is not None and answer_sum == checksum_or_none(
                self.id, logits
            ):
                answer = unpack_or_none(logits, 1)
            if answer is None:
                self.damaged_part = "answer"
            else:
                self._logits = answer[0]

    def row(self) -> QueuedRow | None:
        """Returns the row, or `None` where a part of it is damaged."""
        if self.inputs is None or self.damaged_part is not None:
            return None
        return QueuedRow(
            id=self.id,
            inputs=self.inputs,
            score=self._score_or_nan(),
            probabilities=self._probabilities,
            operating_point=self._point,
            tries=self._tries,
            logits=None if self.reason else self._logits,
            error_message=str(self._message) if self.reason else None,
        )

    def without_answer(self, row_id: str) -> QueuedRow:
        """Returns a dead letter for `answers`, without what is damaged."""
        sound = self.inputs is not None
        return QueuedRow(
            id=row_id,
            inputs=self.inputs or {},
            score=self._score_or_nan() if sound else float("nan"),
            probabilities=self._probabilities,
            operating_point=self._point if sound else "",
            tries=self._tries,
            error_message=str(self._message),
        )

    def dead_letter(self) -> DeadLetter:
        """Returns the row for people to look at."""
        return DeadLetter(
            id=str(self.id),
            reason=str(self.reason),
            error_message=str(self._message),
            tries=self._tries,
            inputs=self.inputs,
            raw=self._raw,
        )

    def _score_or_nan(self):
        return float("nan") if self._score is None else self._score
