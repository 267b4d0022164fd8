"""Answers of a teacher by example, in memory."""

from __future__ import annotations

import collections
import threading

import numpy as np

BYTES = 256 * 2**20


class AnswerMemory:
    """Logits by example hash; the oldest are dropped where it is full.

    Args:
        limit: int, bytes of logits to keep. Defaults to 256 MiB.
    """

    def __init__(self, limit: int = BYTES) -> None:
        self._limit = limit
        self._rows: collections.OrderedDict[int, np.ndarray] = (
            collections.OrderedDict()
        )
        self._lock = threading.Lock()

    def find(self, hashes: list[int]) -> list[np.ndarray | None]:
        """Returns the logits of each example, `None` where unknown."""
        with self._lock:
            return [self._rows.get(key) for key in hashes]

    def add(self, hashes: list[int], logits: np.ndarray) -> None:
        """Keeps the logits of some examples."""
        with self._lock:
            for key, row in zip(hashes, logits, strict=True):
                self._rows[key] = np.array(row)
            most = max(1, self._limit // max(1, logits[:1].nbytes))
            while len(self._rows) > most:
                self._rows.popitem(last=False)
