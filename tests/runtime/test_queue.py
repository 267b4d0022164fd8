"""`TeacherQueue`, and `EdgeCascade` with `on_failure="queue"`."""

import logging
import os
import sqlite3
import stat
import subprocess
import sys
import threading

import numpy as np
import pytest

from keras_cascade.runtime import (
    EdgeCascade,
    QueueError,
    TeacherError,
    TeacherQueue,
)
from keras_cascade.runtime.queueing import queue_sender
from tests.helpers.scripted_teacher import ScriptedTeacher, sums, unavailable

SPECS = [{"name": "input", "shape": [None, 6], "dtype": "float32"}]
CLASSES = ["a", "b", "c", "d"]


@pytest.fixture
def queue(tmp_path):
    """A function that opens the same file, with options."""
    opened = []

    def open_queue(**options):
        opened.append(
            TeacherQueue(tmp_path / "queue", SPECS, CLASSES, **options)
        )
        return opened[-1]

    yield open_queue
    for one in opened:
        one.close()


@pytest.fixture
def edge(bundle_path, tmp_path):
    """A function that loads a cascade with that queue."""
    opened = []

    def load(*script, **options):
        teacher = ScriptedTeacher(*script) if script else None
        options = {"retries": 0, "failures_to_open": 10**6, **options}
        opened.append(
            EdgeCascade.load(
                bundle_path,
                teacher=teacher,
                on_failure="queue",
                queue=tmp_path / "queue",
                **options,
            )
        )
        return opened[-1]

    yield load
    for one in opened:
        one.close()


def put(queue, rows, start=0):
    x = np.arange(start, start + rows, dtype="float32")
    x = np.repeat(x[:, None], 6, axis=1)
    flat = np.full((rows, 4), 0.25, "float32")
    return queue.put({"input": x}, np.arange(rows) / 10, flat, "default")


def taken(edge):
    with edge.queued_answers() as found:
        return found


def test_rows_wait_and_are_answered_once(edge, blobs, students_answer):
    x, _ = blobs(60)
    delegated = students_answer(x)["delegate"]
    cascade = edge(unavailable())
    found = cascade.predict(x)
    np.testing.assert_array_equal(found.source == "queued", delegated)
    assert (found.labels[delegated] == -1).all()
    assert (found.labels[~delegated] >= 0).all()
    assert [name is not None for name in found.ids] == delegated.tolist()
    assert found.teacher_error == "gone"
    assert found.names[int(delegated.argmax())] is None
    with pytest.raises(TeacherError, match="gone"):
        cascade.send_queued()
    assert len(taken(cascade)) == 0

    cascade.teacher.script = [sums]
    assert cascade.send_queued() == delegated.sum()
    assert cascade.send_queued() == 0
    late = taken(cascade)
    assert late.ids == [name for name in found.ids if name is not None]
    assert set(late.source) == {"cloud"}
    logits = sums({"input": x[delegated]})
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(late.probabilities, expected, rtol=1e-5)
    np.testing.assert_array_equal(late.labels, logits.argmax(axis=1))
    np.testing.assert_array_equal(late.score, found.score[delegated])
    assert late.operating_point == "default"
    assert len(taken(cascade)) == 0
    assert len(cascade.queue) == 0


def test_a_device_without_a_network_queues_until_it_has_one(
    edge, blobs, students_answer
):
    x, _ = blobs(60)
    first = edge()
    ids = [name for name in first.predict(x).ids if name]
    first.close()
    again = edge(sums)
    assert again.send_queued() == len(ids)
    assert taken(again).ids == ids


def test_answers_are_handed_out_again_after_an_error(edge, blobs):
    cascade = edge(unavailable())
    cascade.predict(blobs(40)[0])
    cascade.teacher.script = [sums]
    rows = cascade.send_queued()
    with (
        pytest.raises(ZeroDivisionError),
        cascade.queued_answers(limit=2) as found,
    ):
        first = found.ids
        # Nobody else is given them meanwhile.
        with cascade.queued_answers() as others:
            assert set(others.ids).isdisjoint(first)
            assert len(others) == rows - 2
        raise ZeroDivisionError
    assert taken(cascade).ids == first


def test_a_full_queue_takes_none_and_says_so(queue):
    small = queue(max_rows=5)
    kept = put(small, 4)
    with pytest.raises(QueueError, match=r"is full: 4 of 5 rows.* 2 more rows"):
        put(small, 2)
    assert small.waiting() == kept
    put(small, 1)
    # What is answered but not taken counts; what is taken does not.
    small.store(kept, np.zeros((4, 4), "float32"))
    with pytest.raises(QueueError, match="full"):
        put(small, 1)
    with small.answers() as rows:
        assert [row.id for row in rows] == kept
    put(small, 4)


def test_bytes_are_bounded_too(queue):
    # A .npy header of 128 bytes and six floats of 4 bytes: 152 a row.
    small = queue(max_bytes=2 * 152)
    put(small, 2)
    with pytest.raises(QueueError, match="304 of 304 bytes"):
        put(small, 1)
    small.remove(small.waiting())
    put(small, 2)


def test_a_full_queue_raises(bundle_path, blobs, tmp_path):
    """None of the call's rows is queued, and nothing is answered in part."""
    x, _ = blobs(40)
    with EdgeCascade.load(
        bundle_path,
        on_failure="queue",
        queue={"path": tmp_path / "queue", "max_rows": 1},
    ) as cascade:
        with pytest.raises(QueueError, match="None of them was kept"):
            cascade.predict(x)
        assert len(cascade.queue) == 0


def test_an_answer_is_stored_once(queue):
    opened = queue()
    ids = put(opened, 2)
    assert opened.store(ids, np.ones((2, 4), "float32")) == 2
    assert opened.store(ids, np.zeros((2, 4), "float32")) == 0
    opened.reject(ids[0], "too late")
    rows = opened.read([*ids, "unknown"])
    assert [row.logits.tolist() for row in rows] == [[1.0] * 4] * 2
    assert [row.error_message for row in rows] == [None, None]


def test_rows_are_read_as_they_were_put(queue):
    opened = queue()
    inputs = {"input": np.array([[1, 2, 3, 4, 5, np.pi]], "float32")}
    probabilities = np.array([[0.1, 0.2, 0.3, 0.4]], "float32")
    (name,) = opened.put(inputs, [np.nan], probabilities, "frugal")
    opened.close()
    (row,) = queue().read([name])
    np.testing.assert_array_equal(row.inputs["input"], inputs["input"][0])
    assert row.inputs["input"].dtype == np.float32
    np.testing.assert_array_equal(row.probabilities, probabilities[0])
    assert np.isnan(row.score)
    assert row.operating_point == "frugal"


def test_rows_that_the_teacher_does_not_take(edge, blobs, students_answer):
    x, _ = blobs(60)

    def picky(inputs):
        if len(inputs["input"]) > 1 or inputs["input"][0, 0] == worst:
            raise TeacherError("status 400: too odd", about_input=True)
        return sums(inputs)

    cascade = edge(unavailable())
    found = cascade.predict(x)
    delegated = x[students_answer(x)["delegate"]]
    worst = delegated[3, 0]
    cascade.teacher.script = [picky]
    assert cascade.send_queued() == len(delegated) - 1
    late = taken(cascade)
    assert late.ids == [name for name in found.ids if name]
    assert late.source.tolist().count("refused") == 1
    assert late.source[3] == "refused"
    assert late.labels[3] == -1
    assert "too odd" in late.teacher_error
    np.testing.assert_array_equal(
        late.probabilities[3],
        students_answer(delegated[3:4])["probabilities"][0],
    )


def test_one_bad_answer_does_not_hold_up_the_others(edge, blobs):
    def one_nan(inputs):
        logits = sums(inputs)
        logits[inputs["input"][:, 0] == worst] = np.nan
        return logits

    cascade = edge(unavailable())
    found = cascade.predict(blobs(60)[0])
    ids = [name for name in found.ids if name]
    worst = cascade.queue.read(ids[2:3])[0].inputs["input"][0]
    cascade.teacher.script = [one_nan]
    # The batch fails validation; then its halves, down to the row alone.
    assert cascade.send_queued() == len(ids) - 1
    rounds = 0
    while cascade.queue.waiting():
        assert cascade.send_queued() == 0
        rounds += 1
    # Tried alone at once, and until it had been five times in all.
    assert rounds == queue_sender.TRIES - 1
    late = taken(cascade)
    assert late.source.tolist().index("refused") == 2
    assert "NaN" in late.teacher_error


@pytest.mark.parametrize(
    "error", [unavailable(), TeacherError("status 401", refused=True)]
)
def test_retryable_errors_leave_the_rows_in_the_queue(edge, blobs, error):
    cascade = edge(error)
    found = cascade.predict(blobs(40)[0])
    with pytest.raises(TeacherError, match=str(error)):
        cascade.send_queued()
    assert cascade.queue.waiting() == [name for name in found.ids if name]


def test_many_rows_are_sent_in_batches(queue):
    opened = queue()
    put(opened, 2 * queue_sender.BATCH + 1)
    teacher = ScriptedTeacher(sums)
    sender = queue_sender.QueueSender(opened, teacher)
    assert sender.send() == 2 * queue_sender.BATCH + 1
    assert [len(asked["input"]) for asked in teacher.asked] == [64, 64, 1]


def test_a_thread_sends(edge, blobs, caplog):
    """The test takes the place of the clock."""
    cascade = edge(unavailable())
    cascade.predict(blobs(40)[0])
    rounds, woken = threading.Semaphore(0), threading.Semaphore(0)

    class Bell:
        ringing = False

        def wait(self, seconds):
            assert seconds == 60.0
            woken.release()
            rounds.acquire()
            return self.ringing

        def set(self):
            self.ringing = True
            rounds.release()

    cascade._sender._stop = Bell()
    with caplog.at_level(logging.WARNING):
        cascade.send_queued_every(60.0)
        cascade.send_queued_every(60.0)  # one thread, not two
        woken.acquire()
        rounds.release()
        woken.acquire()
    assert "Queued rows wait on: gone" in caplog.text
    cascade.teacher.script = [sums]
    rounds.release()
    woken.acquire()
    assert not cascade.queue.waiting()
    assert len(taken(cascade)) > 0
    cascade.close()
    assert not [t for t in threading.enumerate() if t.name == "queue"]


def test_one_process_at_a_time(queue, tmp_path):
    first = queue()
    put(first, 1)
    with pytest.raises(QueueError, match="Another process has it"):
        queue()
    code = (
        "import sys; from keras_cascade.runtime import TeacherQueue\n"
        f"TeacherQueue(sys.argv[1], {SPECS!r}, {CLASSES!r})"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "queue")],
        capture_output=True,
        text=True,
    )
    assert "Another process has it" in run.stderr
    first.close()
    assert len(queue()) == 1


def test_only_its_user_may_read_it(queue, tmp_path):
    put(queue(), 1)
    for name in os.listdir(tmp_path):
        mode = stat.S_IMODE((tmp_path / name).stat().st_mode)
        assert mode & 0o077 == 0, name


def test_a_queue_of_another_bundle(tmp_path):
    for specs, classes in (
        (SPECS, ["x", "y"]),
        ([{"name": "other", "dtype": "float32"}], CLASSES),
    ):
        file = tmp_path / "queue"
        TeacherQueue(file, SPECS, CLASSES).close()
        with pytest.raises(QueueError, match="other inputs or classes"):
            TeacherQueue(file, specs, classes)


def test_files_that_are_no_queue(tmp_path):
    file = tmp_path / "queue"
    file.write_bytes(b"not a database" * 100)
    with pytest.raises(QueueError, match="is it a queue"):
        TeacherQueue(file, SPECS, CLASSES)
    with pytest.raises(QueueError, match="cannot be used"):
        TeacherQueue(tmp_path, SPECS, CLASSES)
    newer = tmp_path / "newer"
    database = sqlite3.connect(newer)
    database.execute("PRAGMA user_version = 3")
    database.close()
    with pytest.raises(QueueError, match="version 3"):
        TeacherQueue(newer, SPECS, CLASSES)


def test_every_name_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        opened = TeacherQueue(":memory:", SPECS, CLASSES)
        put(opened, 1)
        rows = len(opened)
        opened.close()
    assert rows == 2


def test_threads_share_a_queue(queue):
    opened = queue()
    found = []

    def work():
        for _ in range(10):
            ids = put(opened, 3)
            opened.store(ids[:2], np.zeros((2, 4), "float32"))
            with opened.answers(limit=2) as rows:
                found.extend(row.id for row in rows)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with opened.answers() as rows:
        found.extend(row.id for row in rows)
    assert len(found) == len(set(found)) == 80
    assert len(opened) == len(opened.waiting()) == 40


def test_a_queue_is_asked_for(bundle_path):
    with pytest.raises(ValueError, match="path of a file"):
        EdgeCascade.load(bundle_path, on_failure="queue")
    alone = EdgeCascade.load(bundle_path)
    for call in (alone.send_queued, lambda: taken(alone)):
        with pytest.raises(ValueError, match="queue="):
            call()
