"""Sends queued rows to the teacher."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from keras_cascade.errors import TeacherError

if TYPE_CHECKING:
    from keras_cascade.runtime.queueing.teacher_queue import (
        QueuedRow,
        TeacherQueue,
    )

BATCH = 64
TRIES = 5  # invalid answers to one row alone, before it is rejected

_logger = logging.getLogger(__name__)


class QueueSender:
    """Asks the teacher about queued rows and stores its answers.

    A row whose inputs the teacher does not take is marked as refused and
    handed out as such. Rows of a batch whose answer fails validation (NaN,
    say) are sent again, each alone, after all others.

    Args:
        queue: `TeacherQueue`.
        caller: object with `logits(inputs)` that raises `TeacherError`.
    """

    def __init__(self, queue: TeacherQueue, caller):
        self._queue = queue
        self._caller = caller
        self._sending = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def send(self) -> int:
        """Asks the teacher about every waiting row once.

        Returns:
            int, how many rows were answered.

        Raises:
            TeacherError: the teacher does not answer; what it has answered is
                stored, the rest waits.
        """
        with self._sending:
            ids = self._queue.waiting()
            return sum(
                self._send(group)
                for start in range(0, len(ids), BATCH)
                for group in _alike(
                    self._queue.read(ids[start : start + BATCH])
                )
            )

    def start(self, every: float) -> None:
        """Sends repeatedly in a background thread, until `close`.

        Args:
            every: float, seconds between two rounds.
        """
        if not every > 0:
            raise ValueError(f"Expected seconds above 0. Received: {every}.")
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, args=(every,), name="queue", daemon=True
            )
            self._thread.start()

    def close(self) -> None:
        """Stops the thread, after its current round."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, every):
        while not self._stop.wait(every):
            try:
                self.send()
            except TeacherError as error:
                _logger.warning("Queued rows wait on: %s", error)

    def _send(self, rows):
        inputs = {
            name: np.stack([row.inputs[name] for row in rows])
            for name in rows[0].inputs
        }
        ids = [row.id for row in rows]
        try:
            logits = self._caller.logits(inputs)
        except TeacherError as error:
            if error.about_input and len(rows) > 1:
                half = len(rows) // 2
                return self._send(rows[:half]) + self._send(rows[half:])
            alone_too_often = len(rows) == 1 and rows[0].tries >= TRIES
            if error.about_input or (error.invalid_answer and alone_too_often):
                self._queue.reject(ids[0], str(error))
                return 0
            if error.invalid_answer:
                self._queue.postpone(ids)
                return 0
            raise
        return self._queue.store(ids, logits)


def _alike(rows: Iterable[QueuedRow]):
    """Groups rows that can share a batch."""
    # Sizes may differ, and a row that was tried before may spoil the answer
    # for others: it goes alone.
    groups: dict[tuple, list[QueuedRow]] = {}
    for row in rows:
        alone = row.id if row.tries else None
        sizes = tuple(array.shape for array in row.inputs.values())
        groups.setdefault((alone, sizes), []).append(row)
    return groups.values()
