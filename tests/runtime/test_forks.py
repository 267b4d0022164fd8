"""Forked children leave the parent's queue, log and interpreters alone."""

import gc
import multiprocessing
import os
import signal
import sqlite3
import sys
import threading

import numpy as np
import pytest

from keras_cascade.runtime import (
    EdgeCascade,
    QueueError,
    TeacherLog,
    TeacherQueue,
)
from keras_cascade.runtime.queueing.queue_sender import QueueSender
from tests.helpers.scripted_teacher import ScriptedTeacher, sums

# Python 3.12 warns of forks in a process with threads, which is what is tested.
pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)
SPECS = [{"name": "input", "shape": [None, 6], "dtype": "float32"}]
CLASSES = ["a", "b", "c", "d"]
FLAT = np.full((3, 4), 0.25, "float32")


def rows(value):
    return {"input": np.full((3, 6), value, "float32")}


def put(queue, value=1.0):
    return queue.put(rows(value), np.zeros(3), FLAT, "default")


def in_child(work):
    """Forks; returns what `work` returned or the error that it raised.

    The child ends without running the parent's own clean-up.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = repr(work())
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(write, answer.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as stream:
        answer = stream.read()
    assert os.waitpid(child, 0)[1] == 0
    return answer


def finished(code, *arguments):
    """Runs a program in a process of its own; returns what it printed."""
    import subprocess

    run = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return run.returncode, run.stdout, run.stderr


# The parent forks children that end in every way, then dies by kill -9 while
# its rows are in the write-ahead log alone.
PARENT = f"""
import gc, os, signal, sys
import numpy as np
from keras_cascade.runtime import TeacherLog, TeacherQueue
SPECS, CLASSES = {SPECS!r}, {CLASSES!r}
queue = TeacherQueue(sys.argv[1], SPECS, CLASSES)
log = TeacherLog(sys.argv[2], SPECS, CLASSES)
x = {{"input": np.ones((3, 6), "float32")}}
flat = np.full((3, 4), 0.25, "float32")

def close():
    queue.close(), log.close()

def collect():
    global queue, log
    del queue, log
    gc.collect()

def write():
    for work in (lambda: queue.put(x, np.zeros(3), flat, "p"),
                 lambda: queue.remove(queue.waiting()),
                 log.clear):
        try:
            work()
        except Exception as error:
            assert "was forked from it" in str(error), error
        else:
            raise SystemExit(3)
    log.add(x, flat)

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

endings = dict(close=close, collect=collect, write=write, kill=kill,
               exit=lambda: None)
for value in range(4):
    queue.put(x, np.zeros(3), flat, "default")
    log.add(x, flat)
child = os.fork()
if child == 0:
    endings[sys.argv[3]]()
    sys.exit()
status = os.waitpid(child, 0)[1]
assert os.waitstatus_to_exitcode(status) in (0, -9), status
for value in range(4):
    queue.put(x, np.zeros(3), flat, "default")
    log.add(x, flat)
print("done", flush=True)
kill()
"""


@pytest.mark.parametrize(
    "ending", ["close", "collect", "write", "kill", "exit"]
)
def test_no_acknowledged_row_is_lost(tmp_path, ending):
    queue_file, log_file = tmp_path / "queue", tmp_path / "log"
    code, printed, errors = finished(PARENT, queue_file, log_file, ending)
    assert (code, printed) == (-signal.SIGKILL, "done\n"), errors
    queue = TeacherQueue(queue_file, SPECS, CLASSES)
    assert len(queue) == 8 * 3
    assert len(queue.read(queue.waiting())) == 8 * 3
    queue.close()
    log = TeacherLog(log_file, SPECS, CLASSES)
    assert len(log) == 8 * 3
    log.close()
    for file in (queue_file, log_file):
        db = sqlite3.connect(file)
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        db.close()


def test_a_child_is_refused_with_advice_and_may_open_its_own(tmp_path):
    queue = TeacherQueue(tmp_path / "queue", SPECS, CLASSES)
    ids = put(queue)
    pid = str(os.getpid())
    for work in (
        queue.waiting,
        lambda: put(queue),
        lambda: len(queue),
        lambda: queue.remove(ids),
        lambda: queue.answers().__enter__(),
        lambda: queue.dead_letters(),
        lambda: TeacherQueue(tmp_path / "queue", SPECS, CLASSES),
    ):
        answer = in_child(work)
        assert answer.startswith("QueueError"), answer
        assert pid in answer or "Another process has it" in answer

    def own():
        other = TeacherQueue(tmp_path / "own", SPECS, CLASSES)
        put(other)
        count = len(other)
        other.close()
        return count

    assert in_child(own) == "3"
    assert queue.waiting() == ids
    queue.close()
    assert sorted(os.listdir(tmp_path)) == ["own", "queue"]


def test_a_fork_waits_for_a_transaction_of_another_thread(tmp_path):
    """No lock of SQLite's or of the queue's is held in the child."""
    queue = TeacherQueue(tmp_path / "queue", SPECS, CLASSES)
    inside, leave = threading.Event(), threading.Event()

    def hold():
        with queue._file.transaction():
            inside.set()
            leave.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait()
    timer = threading.Timer(0.0, leave.set)
    timer.start()
    assert in_child(queue.waiting).startswith("QueueError")
    thread.join()
    timer.join()
    put(queue)
    queue.close()


def test_a_fork_in_the_middle_of_a_transaction(tmp_path):
    """As a signal handler may do it: the child must not commit."""
    queue = TeacherQueue(tmp_path / "queue", SPECS, CLASSES)

    def commit():
        with queue._file.transaction() as db:
            db.execute("SELECT 1")
            answers.append(in_child_of_transaction())

    answers = []

    def in_child_of_transaction():
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            raise _InChildError(write)
        os.close(write)
        with os.fdopen(read) as stream:
            answer = stream.read()
        os.waitpid(child, 0)
        return answer

    try:
        commit()
    except _InChildError as here:
        # The child: its way out neither committed nor rolled back.
        os.write(here.write, b"left")
        os._exit(0)
    assert answers == ["left"]
    ids = put(queue)
    assert queue.waiting() == ids
    queue.close()


class _InChildError(Exception):
    def __init__(self, write):
        super().__init__()
        self.write = write


def test_the_senders_thread_does_not_survive_a_fork(tmp_path):
    queue = TeacherQueue(tmp_path / "queue", SPECS, CLASSES)
    sender = QueueSender(queue, ScriptedTeacher(sums))
    sender.start(3600.0)
    assert sender.is_running
    # However the thread's locks were left: none of this waits for them.
    sender._sending.acquire()
    try:
        assert in_child(lambda: sender.is_running) == "False"
        assert in_child(sender.close) == "None"
        for work in (lambda: sender.start(1.0), sender.send):
            assert in_child(work).startswith("QueueError")
    finally:
        sender._sending.release()
    assert sender.is_running
    sender.close()
    assert not sender.is_running
    queue.close()


@pytest.fixture
def edge(bundle_path, tmp_path):
    with EdgeCascade.load(
        bundle_path,
        ScriptedTeacher(sums),
        on_failure="queue",
        num_threads=4,
        queue=tmp_path / "queue",
        log=tmp_path / "log",
    ) as edge:
        yield edge


def test_a_cascade_predicts_in_a_child_and_keeps_its_parents_files(
    edge, blobs, caplog
):
    x, _ = blobs(60)
    expected = edge.predict(x)
    logged = len(edge.log)

    def answers():
        prediction = edge.predict(x)  # a log that it cannot write to warns
        edge.close()
        return (prediction.labels == expected.labels).all()

    for _ in range(3):
        assert in_child(answers) in ("True", "np.True_")
    assert len(edge.log) == logged
    edge.predict(x)
    assert len(edge.log) == 2 * logged


def test_a_child_that_cannot_queue_says_so(edge, blobs):
    edge.teacher.script = [QueueError("no teacher")]
    assert "was forked from it" in in_child(lambda: edge.predict(blobs(60)[0]))


# A child that frees interpreters of threads that it lacks used to crash; they
# run while it is forked.
BUSY = """
import gc, os, sys, threading
import numpy as np
from keras_cascade.runtime import StudentInterpreter
student = StudentInterpreter(sys.argv[1], num_threads=4)
x = {"input": np.random.default_rng(0).random((256, 6), "float32")}
expected = student.run(x)["probabilities"]
ready, stop = threading.Barrier(4), threading.Event()

def work():
    student.run(x)
    ready.wait()
    while not stop.is_set():
        student.run(x)

threads = [threading.Thread(target=work, daemon=True) for _ in range(3)]
for thread in threads:
    thread.start()
ready.wait()
for ending in ("run", "close", "collect", "exit") * 3:
    child = os.fork()
    if child == 0:
        if ending in ("run", "close"):
            assert (student.run(x)["probabilities"] == expected).all()
        if ending == "close":
            student.close()
        if ending == "collect":
            del student, threads
            gc.collect()
        sys.exit()
    status = os.waitpid(child, 0)[1]
    print(os.waitstatus_to_exitcode(status), end=" ", flush=True)
stop.set()
for thread in threads:
    thread.join()
"""


def test_interpreters_of_a_busy_parent(bundle_path):
    code, printed, errors = finished(BUSY, bundle_path / "student.tflite")
    assert (code, printed.split()) == (0, ["0"] * 12), errors


def test_a_child_has_interpreters_of_its_own(edge, blobs):
    runner = edge._student._runner()

    def other():
        return edge._student._runner() is not runner

    assert in_child(other) == "True"
    assert edge._student._runner() is runner


def _pooled(value):
    prediction = _EDGE.predict_alone(np.full((1, 6), value, "float32"))
    return int(prediction.labels[0])


_EDGE = None


def test_a_pool_of_forked_processes(edge):
    global _EDGE
    _EDGE = edge
    try:
        expected = [_pooled(value) for value in range(8)]
        ids = put(edge.queue)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(_pooled, range(8)) == expected
            pool.close()
            pool.join()
    finally:
        _EDGE = None
    assert edge.queue.waiting() == ids
    assert len(put(edge.queue)) == 3


def test_a_parent_frees_its_handles_as_ever(tmp_path):
    """Being kept in children keeps nothing alive in the parent."""
    queue = TeacherQueue(tmp_path / "queue", SPECS, CLASSES)
    in_child(lambda: None)
    del queue
    gc.collect()
    TeacherQueue(tmp_path / "queue", SPECS, CLASSES).close()
