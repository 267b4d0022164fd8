"""LogWriter: readers that stall or are gone, and rates."""

import contextlib
import fcntl
import json
import logging
import os
import threading

import pytest

from keras_cascade.serving.log_writer import LogWriter, non_blocking
from keras_cascade.serving.server_log import JsonFormatter


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def pipe():
    """Read end and write end; the read end may be closed by the test."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    yield reading, writing
    for descriptor in (reading, writing):
        with contextlib.suppress(OSError):
            os.close(descriptor)


def writer_on(descriptor, **options):
    """A `LogWriter` with a non-blocking descriptor of its own."""
    own = os.dup(descriptor)
    os.set_blocking(own, False)
    writer = LogWriter(own, **options)
    writer.setFormatter(JsonFormatter())
    return writer


def record(event, level=logging.INFO, **fields):
    made = logging.LogRecord("server", level, "f", 1, event, (), None)
    made.fields = fields
    return made


def read_lines(descriptor):
    """The lines of a pipe whose writers are closed."""
    with os.fdopen(descriptor, "rb") as stream:
        return [json.loads(line) for line in stream]


def test_a_reader_that_stalls_does_not_stall_the_server(pipe):
    """Nobody reads: 500 lines fill the pipe and the queue, the rest is
    dropped, counted, and said when somebody reads again."""
    reading, writing = pipe
    writer = writer_on(writing, max_lines=100)
    for number in range(500):
        writer.emit(record("request", rows=1, number=number))
    lines = []

    def read():
        lines.extend(read_lines(os.dup(reading)))

    reader = threading.Thread(target=read)
    reader.start()
    empty = False
    while not empty:  # the queue is written, then the count
        with writer._changed:
            empty = not writer._lines and not writer._dropped
    writer.close()
    os.close(writing)
    reader.join(30)
    (said,) = [one for one in lines if one["event"] == "log_lines_dropped"]
    written = [one["number"] for one in lines if one["event"] == "request"]
    # The first ones, and any that found room once the pipe took some of them.
    assert written[:100] == list(range(100))
    assert written == sorted(set(written))
    assert len(written) + said["lines"] == 500
    assert said["lines"] > 300


def test_closing_does_not_wait_for_a_reader_that_stalls(pipe):
    _, writing = pipe
    writer = writer_on(writing)
    for _ in range(500):
        writer.emit(record("request", rows=1))
    writer.close()
    assert not writer._thread.is_alive()


def test_a_reader_that_is_gone(pipe):
    reading, writing = pipe
    writer = writer_on(writing)
    os.close(reading)
    for _ in range(20):
        writer.emit(record("request", rows=1))
    writer._thread.join(30)
    assert not writer._thread.is_alive()
    writer.emit(record("request", rows=1))  # and nothing is kept
    assert not writer._lines
    writer.close()


def test_lines_of_one_kind_have_a_rate(pipe):
    """100 at once, then ten a second; others are not affected."""
    reading, writing = pipe
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 2**20)
    clock = Clock()
    writer = writer_on(writing, clock=clock)
    for _ in range(1000):
        writer.emit(record("request", rows=0, status=401))
    writer.emit(record("request", rows=0, status=404))
    for _ in range(200):
        writer.emit(record("request", rows=1, status=200))
    clock.now = 1.0
    for _ in range(1000):
        writer.emit(record("request", rows=0, status=401))
    writer.close()
    os.close(writing)
    lines = read_lines(os.dup(reading))
    assert sum(line["status"] == 200 for line in lines) == 200
    assert sum(line["status"] == 404 for line in lines) == 1
    refused = [line for line in lines if line["status"] == 401]
    assert len(refused) == 100 + 10
    assert [one.get("suppressed") for one in refused[99:102]] == [
        None, 900, None,
    ]  # fmt: skip


def test_a_pipe_is_non_blocking_for_this_process_only(pipe):
    _, writing = pipe
    other = os.dup(writing)  # as a parent process has it
    with non_blocking(writing):
        assert not os.get_blocking(writing)
        assert os.get_blocking(other)
        with pytest.raises(BlockingIOError):
            while True:
                os.write(writing, bytes(4096))
    assert os.get_blocking(writing)
    os.close(other)
