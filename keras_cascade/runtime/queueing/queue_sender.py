"""Sends queued rows to the teacher."""

from __future__ import annotations

import collections
import logging
import os
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from keras_cascade.errors import TeacherError
from keras_cascade.runtime.queueing.dead_letter import FAILED, REFUSED

if TYPE_CHECKING:
    from keras_cascade.runtime.queueing.queued_row import QueuedRow
    from keras_cascade.runtime.queueing.teacher_queue import TeacherQueue

BATCH = 64
TRIES = 5  # failures on one row alone, before it is put aside
#: Failures in a row before the teacher is asked for a sign of life. With the
#: two rows that it is then asked about, if it has answered none yet, fewer
#: than open the circuit by default.
SUSPICIOUS = 2

_logger = logging.getLogger(__name__)


class QueueSender:
    """Asks the teacher about queued rows and stores its answers.

    A batch that fails is sent again in halves, after all others, down to the
    rows that fail alone. Whose fault a failure is:

    - No connection, a timeout, an overload, an open circuit, a rejected token
      or a stranger in the teacher's position: an outage. The round ends, and
      nothing is counted.
    - A row that a teacher of proven identity does not take: the row's. It
      becomes a dead letter at once.
    - Any other failure of one row alone (status 500, an invalid answer,
      inputs that are rejected by a teacher of unproven identity, an exception
      of a teacher in this process): the row's, if the teacher answers about a
      control row right afterwards, one that it has answered before. Such a
      try is counted, and after `TRIES` the row becomes a dead letter; but not
      on the word of a teacher of unproven identity, which leaves it waiting.
      If the teacher does not answer about the control row, or no row was ever
      answered, the failure is an outage.

    Args:
        queue: `TeacherQueue`.
        caller: object with `logits(inputs)` that raises `TeacherError`.
        control: object with `logits(inputs)` for control rows. Defaults to
            `None`: `caller`.
        in_process: bool. The teacher is an object of this process, no matter
            of what the network answers: its identity is proven. Defaults to
            `True`.

    Attributes:
        error: the exception that ended the last round early, or `None`.
    """

    def __init__(
        self, queue: TeacherQueue, caller, control=None, in_process: bool = True
    ):
        self._queue = queue
        self._caller = caller
        self._control = caller if control is None else control
        self._in_process = in_process
        self._process = os.getpid()
        self._sending = threading.Lock()
        self._stop = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None
        # Inputs of a row that was answered, as a batch of one.
        self._control_inputs: dict[str, np.ndarray] | None = None
        # How often a round ended at a row (sent later in the next ones), and
        # how often while others were answered (sent in smaller batches).
        self._ended_at: collections.Counter[str] = collections.Counter()
        self._halved: collections.Counter[str] = collections.Counter()
        self._searches = 0  # for a control row
        self.error: Exception | None = None

    @property
    def is_running(self) -> bool:
        """`True` while the thread runs, in this process."""
        thread = self._thread
        return (
            thread is not None
            and os.getpid() == self._process
            and thread.is_alive()
        )

    def send(self) -> int:
        """Asks the teacher about every waiting row once.

        Returns:
            int, how many rows were answered. Rows that failed alone are
            reported as warnings of this module's logger.

        Raises:
            TeacherError: the teacher does not answer; what it has answered is
                stored, the rest waits.
        """
        self._queue.check()  # before the lock: a fork may leave it locked
        with self._sending:
            try:
                answered = self._round()
            except Exception as error:
                self.error = error
                raise
            self.error = None
            return answered

    def start(self, every: float) -> None:
        """Sends repeatedly in a background thread, until `close`.

        A thread that has ended, whatever ended it, is started again.

        Args:
            every: float, seconds between two rounds.
        """
        if not every > 0:
            raise ValueError(f"Expected seconds above 0. Received: {every}.")
        self._queue.check()
        if not self.is_running:
            self._thread = threading.Thread(
                target=self._run, args=(every,), name="queue", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """Ends the current round after its batch, and the thread with it."""
        if os.getpid() == self._process:
            self._closed = True
            self._stop.set()

    def close(self, timeout: float | None = None) -> None:
        """Stops the thread.

        Args:
            timeout: float, seconds to wait for the batch under way. After
                them the thread is left alone: its batch stays queued, and
                its answer is not stored. Defaults to `None`: no limit.
        """
        self.stop()
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return
        if self.is_running:
            thread.join(timeout)

    def _run(self, every):
        while not self._stop.wait(every):
            try:
                self.send()
            except TeacherError as error:
                if not self._closed:
                    _logger.warning("Queued rows wait on: %s", error)
            except Exception as error:
                if not self._closed:
                    _logger.exception("Queued rows wait on: %r", error)

    def _round(self):
        ids = self._queue.waiting()
        known = set(ids)
        for counts in (self._ended_at, self._halved):
            for row_id in counts.keys() - known:
                del counts[row_id]
        return _Round(self, self._groups(ids)).run()

    def _groups(self, ids):
        """Yields lists of ids, in the order in which they are to be sent."""
        by_size = {}
        for row_id in sorted(ids, key=self._ended_at.__getitem__):
            size = max(1, BATCH >> self._halved[row_id])
            by_size.setdefault(size, []).append(row_id)
        for size, group in sorted(by_size.items(), reverse=True):
            for start in range(0, len(group), size):
                yield group[start : start + size]


class _Round:
    """One pass over the waiting rows.

    Args:
        sender: `QueueSender`.
        groups: iterable of lists of ids.
    """

    def __init__(self, sender, groups):
        self._sender = sender
        self._queue = sender._queue
        self._groups = collections.deque(groups)
        self._failed = []  # ids that failed since the last sign of life
        self._failures = 0  # in a row, without a sign of life
        self._overdue = 0  # rows that were tried often enough
        self._answered = 0

    def run(self):
        """Sends every group; returns how many rows were answered."""
        while self._groups and not self._sender._closed:
            for rows in _alike(self._waiting(self._groups.popleft())):
                self._send(rows)
                if self._sender._closed:
                    break
        return self._answered

    def _waiting(self, ids):
        return [
            row
            for row in self._queue.read(ids)
            if row.logits is None and row.error_message is None
        ]

    def _send(self, rows):
        if rows[0].tries >= TRIES:  # alone, refused by an unproven teacher
            self._overdue += 1
            if self._overdue > BATCH:
                return
        error = self._ask(rows)
        if error is None:
            return
        if len(rows) > 1:
            half = len(rows) // 2
            for part in (rows[:half], rows[half:]):
                self._groups.append([row.id for row in part])
        if self._is_proven_rejection(error):
            self._failed, self._failures = [], 0
            if len(rows) == 1:
                self._put_aside(rows[0], error, REFUSED)
            return
        self._failed += [row.id for row in rows]
        self._failures += 1
        if _is_outage(error):
            self._end(error)
        if len(rows) == 1 or self._failures >= SUSPICIOUS:
            if not self._sign_of_life():
                self._end(error)
            self._failed, self._failures = [], 0
        if len(rows) == 1:
            self._count(rows[0], error)

    def _ask(self, rows):
        """Asks about rows and stores the answers; returns a failure."""
        inputs = {
            name: np.stack([row.inputs[name] for row in rows])
            for name in rows[0].inputs
        }
        try:
            logits = self._sender._caller.logits(inputs)
        except Exception as error:
            return error
        if self._sender._closed:
            return None  # too late: the queue may be closed by now
        self._answered += self._queue.store([row.id for row in rows], logits)
        self._sender._control_inputs = {
            name: array[:1].copy() for name, array in inputs.items()
        }
        self._failed, self._failures = [], 0
        return None

    def _sign_of_life(self):
        """Returns `True` where the teacher answers about a control row."""
        control = self._sender._control_inputs
        if control is None:
            return self._find_control()
        try:
            self._sender._control.logits(control)
        except Exception:
            return False  # its failure is reported as that of the rows
        return True

    def _find_control(self):
        """Asks about single rows, until one of them is answered."""
        # Far from each other, as are rows that came at different times, and
        # others than in the last round.
        groups = (self._groups[0], self._groups[-1]) if self._groups else ()
        self._sender._searches += 1
        return any(
            self._ask(rows) is None
            for group in groups
            if (rows := self._waiting([self._candidate(group)]))
        )

    def _candidate(self, group):
        return group[self._sender._searches % len(group)]

    def _is_proven_rejection(self, error):
        """Returns `True` where the bundle's teacher rejects the inputs."""
        return (
            _is_about_input(error)
            and not error.stranger
            and (error.identified or self._sender._in_process)
        )

    def _end(self, error):
        """Ends the round on an outage; its rows come later in the next."""
        self._sender._ended_at.update(self._failed)
        if self._answered:
            self._sender._halved.update(self._failed)
        raise error

    def _count(self, row, error):
        tries = row.tries + 1
        if tries >= TRIES and not _is_about_input(error):
            self._put_aside(row, error, FAILED)
            return
        self._queue.postpone([row.id])
        _logger.warning(
            "The teacher failed on the queued row '%s' alone, %d times by "
            "now: %s",
            row.id,
            tries,
            _message(error),
        )

    def _put_aside(self, row, error, reason):
        self._queue.reject(row.id, _message(error), reason)
        _logger.warning(
            "The queued row '%s' is a dead letter (%s): %s",
            row.id,
            reason,
            _message(error),
        )


def _is_outage(error):
    """Returns `True` of a failure that says nothing about the rows."""
    return isinstance(error, TeacherError) and (
        error.retryable
        or error.stranger
        or error.not_asked
        or (error.refused and not error.about_input)
    )


def _is_about_input(error):
    return isinstance(error, TeacherError) and error.about_input


def _message(error):
    if isinstance(error, TeacherError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _alike(rows: Iterable[QueuedRow]):
    """Groups rows that can share a batch."""
    # Sizes may differ, and a row that failed alone before may fail a batch:
    # it goes alone.
    groups: dict[tuple, list[QueuedRow]] = {}
    for row in rows:
        alone = row.id if row.tries else None
        sizes = tuple(array.shape for array in row.inputs.values())
        groups.setdefault((alone, sizes), []).append(row)
    return groups.values()
