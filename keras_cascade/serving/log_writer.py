"""Writes log lines in a thread, to a reader that may be slow or gone."""

import collections
import contextlib
import errno
import logging
import os
import select
import stat
import threading
import time

MAX_LINES = 10_000
FLUSH_SECONDS = 2.0
POLL_SECONDS = 0.5
#: Lines of one kind (logger, level, event, status) without a row answered:
#: so many at once, then so many per second.
BURST, PER_SECOND = 100, 10


class LogWriter(logging.Handler):
    """Handler with a bounded queue and a thread that writes it.

    A line that finds the queue full is dropped and counted; so is one beyond
    the rate of its kind. The next line of that kind, or of any, says how
    many: `"suppressed": 12`, `{"event": "log_lines_dropped", "lines": 12}`.

    Args:
        descriptor: int, file descriptor to write to, best a non-blocking one;
            `close` closes it.
        max_lines: int. Defaults to `10_000`.
        clock: function that returns seconds. Defaults to `time.monotonic`.
    """

    def __init__(self, descriptor, max_lines=MAX_LINES, clock=time.monotonic):
        super().__init__()
        self._descriptor = descriptor
        self._max_lines = max_lines
        self._clock = clock
        self._lines = collections.deque()
        self._dropped = 0
        self._kinds = {}  # kind -> [tokens, time of the last one, suppressed]
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def emit(self, record):
        """Queues a record, or counts it."""
        if not self._is_within_rate(record):
            return
        with self._changed:
            if len(self._lines) >= self._max_lines:
                self._dropped += 1
                return
            try:
                self._lines.append(self.format(record))
            except Exception:
                self.handleError(record)
                return
            self._changed.notify()

    def close(self):
        """Writes what is left, for at most two seconds."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(FLUSH_SECONDS)
        if not self._thread.is_alive():
            os.close(self._descriptor)
        super().close()

    def _is_within_rate(self, record):
        fields = getattr(record, "fields", {})
        if fields.get("rows"):  # the record of a request that was answered
            return True
        kind = (record.name, record.levelno, record.msg, fields.get("status"))
        now = self._clock()
        state = self._kinds.setdefault(kind, [BURST, now, 0])
        state[0] = min(BURST, state[0] + PER_SECOND * (now - state[1]))
        state[1] = now
        if state[0] < 1:
            state[2] += 1
            return False
        state[0] -= 1
        if state[2]:
            record.fields = {**fields, "suppressed": state[2]}
            state[2] = 0
        return True

    def _run(self):
        while True:
            with self._changed:
                while not self._lines and not self._dropped:
                    if self._closing:
                        return
                    self._changed.wait()
                line = self._lines.popleft() if self._lines else None
                dropped = 0
                if line is None:
                    dropped, self._dropped = self._dropped, 0
            if line is None:
                line = self.format(_dropped_record(dropped))
            if not self._write(line.encode("utf-8", "replace") + b"\n"):
                return

    def _write(self, line):
        while line:
            try:
                line = line[os.write(self._descriptor, line) :]
            except BlockingIOError:
                if self._closing:
                    return False
                poll = select.poll()
                poll.register(self._descriptor, select.POLLOUT)
                poll.poll(POLL_SECONDS * 1000)
            except OSError as error:
                if error.errno in (errno.EPIPE, errno.EBADF):
                    return self._discard()
                with self._changed:  # a full disk, perhaps
                    self._dropped += 1
                    self._changed.wait_for(lambda: self._closing, POLL_SECONDS)
                return not self._closing
        return True

    def _discard(self):
        """Drops every line from now on: the reader is gone."""
        with self._changed:
            self._max_lines = 0
            self._lines.clear()
        return False


@contextlib.contextmanager
def non_blocking(descriptor):
    """Makes writes to a pipe, terminal or socket return at once.

    TensorFlow's and gRPC's own lines go there too, from threads that must
    not wait for a reader. A pipe or terminal is opened anew: the flag belongs
    to the open file, which other processes share.

    Args:
        descriptor: int.
    """
    kind = os.fstat(descriptor).st_mode
    if not (stat.S_ISFIFO(kind) or stat.S_ISCHR(kind) or stat.S_ISSOCK(kind)):
        yield  # a regular file never blocks for long
        return
    original = os.dup(descriptor)
    try:
        if stat.S_ISSOCK(kind):
            os.set_blocking(descriptor, False)
        else:
            with contextlib.suppress(OSError):  # no /proc, or not ours
                anew = os.open(
                    f"/proc/self/fd/{descriptor}",
                    os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY,
                )
                os.dup2(anew, descriptor)
                os.close(anew)
        yield
    finally:
        if stat.S_ISSOCK(kind):
            os.set_blocking(original, True)
        os.dup2(original, descriptor)
        os.close(original)


def _dropped_record(lines):
    record = logging.LogRecord(
        "keras_cascade.serving", logging.WARNING, __file__, 0,
        "log_lines_dropped", (), None,
    )  # fmt: skip
    record.fields = {"lines": lines}
    return record
