"""Dead letters of `TeacherQueue` and `EdgeCascade`, and damaged rows."""

import sqlite3
from contextlib import closing

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_cascade.errors import TeacherError
from keras_cascade.runtime import (
    AsyncEdgeCascade,
    EdgeCascade,
    QueueError,
    TeacherLog,
    TeacherQueue,
)
from keras_cascade.runtime.queueing.queue_sender import QueueSender
from tests.helpers.scripted_teacher import ScriptedTeacher, sums, unavailable

SPECS = [{"name": "input", "shape": [None, 6], "dtype": "float32"}]
CLASSES = ["a", "b", "c", "d"]
FLAT = np.full(4, 0.25, "float32")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "queue"


def opened(file, **options):
    return closing(TeacherQueue(file, SPECS, CLASSES, **options))


def put(queue, rows):
    x = np.arange(6 * rows, dtype="float32").reshape(rows, 6)
    return queue.put(
        {"input": x}, np.arange(rows) / 8, np.tile(FLAT, (rows, 1)), "default"
    )


def altered(file, column, row_id, table="rows"):
    """Flips one bit in a column of a row, or in its first character."""
    with closing(sqlite3.connect(file)) as db:
        where = f"FROM {table} WHERE id = ?"
        (value,) = db.execute(f"SELECT {column} {where}", (row_id,)).fetchone()
        if isinstance(value, str):
            value = chr(ord(value[0]) ^ 1) + value[1:]
        elif isinstance(value, float):
            value = value + 0.5
        else:
            value = value[:-1] + bytes([value[-1] ^ 1])
        db.execute(
            f"UPDATE {table} SET {column} = ? WHERE id = ?", (value, row_id)
        )
        db.commit()


def test_a_rejected_row_is_kept_with_its_inputs(file):
    with opened(file) as queue:
        ids = put(queue, 3)
        (row,) = queue.read(ids[1:2])
        queue.reject(ids[1], "status 400: too odd")
        assert queue.waiting() == [ids[0], ids[2]]
        for _ in range(2):  # listing changes nothing
            (letter,) = queue.dead_letters()
            assert (letter.id, letter.reason) == (ids[1], "refused")
            assert letter.error_message == "status 400: too odd"
            np.testing.assert_array_equal(
                letter.inputs["input"], row.inputs["input"]
            )
            assert letter.raw.endswith(row.inputs["input"].tobytes())
        # Handed out once, so that nobody waits for it; again after an error.
        with pytest.raises(ZeroDivisionError), queue.answers() as answers:
            assert [one.id for one in answers] == [ids[1]]
            raise ZeroDivisionError
        with queue.answers() as answers:
            assert [one.id for one in answers] == [ids[1]]
            assert answers[0].logits is None
        with queue.answers() as answers:
            assert answers == []
        assert len(queue.dead_letters()) == 1
    with opened(file) as queue:
        assert [one.id for one in queue.dead_letters()] == [ids[1]]


def test_put_back_and_dropped(file):
    with opened(file) as queue:
        ids = put(queue, 4)
        queue.postpone(ids[:1])
        for row_id in ids[:3]:
            queue.reject(row_id, "no")
        with queue.answers():
            pass
        assert queue.counts() == {"waiting": 1, "answered": 0, "dead": 3}
        assert [one.id for one in queue.dead_letters(limit=2)] == ids[:2]
        assert queue.requeue([ids[0], ids[3], "unknown"]) == 1
        assert queue.waiting() == [ids[0], ids[3]]
        assert queue.read(ids[:1])[0].tries == 0
        assert queue.drop([ids[1], ids[0], ids[3], "unknown"]) == 1
        assert len(queue) == 3
        assert queue.requeue() == 1
        assert queue.dead_letters() == []
        # Answered now, it is handed out like any other.
        queue.store(ids[:1], np.ones((1, 4), "float32"))
        with queue.answers() as answers:
            assert [one.id for one in answers] == ids[:1]
            assert answers[0].error_message is None


def test_dead_letters_fill_the_queue(file):
    with opened(file, max_rows=2) as queue:
        ids = put(queue, 2)
        queue.reject(ids[0], "no")
        with pytest.raises(QueueError, match="drop dead letters"):
            put(queue, 1)
        queue.drop(ids)
        put(queue, 1)


@pytest.mark.parametrize(
    "column", ["inputs", "probabilities", "operating_point", "score"]
)
def test_a_damaged_row_is_put_aside_and_the_rest_goes_on(file, column, caplog):
    with opened(file) as queue:
        ids = put(queue, 5)
    altered(file, column, ids[2])
    teacher = ScriptedTeacher(sums)
    with opened(file) as queue:
        assert QueueSender(queue, teacher).send() == 4
        sent = np.concatenate([one["input"] for one in teacher.asked])
        assert sent[:, 0].tolist() == [0, 6, 18, 24]
        assert "is damaged" in caplog.text
        assert ids[2] in caplog.text
        (letter,) = queue.dead_letters()
        assert (letter.id, letter.reason) == (ids[2], "damaged")
        assert letter.inputs is None
        # The bytes are kept, but never sent.
        assert len(letter.raw) == 152
        assert queue.requeue() == 0
        with queue.answers() as answers:
            assert [one.id for one in answers] == ids
            assert answers[2].logits is None
            assert answers[2].probabilities is None
        assert queue.drop([ids[2]]) == 1


def test_a_damaged_answer_never_becomes_a_label(file):
    with opened(file) as queue:
        ids = put(queue, 3)
        queue.store(ids, sums({"input": np.eye(3, 6, dtype="float32")}))
    altered(file, "logits", ids[0])
    with opened(file) as queue:
        with queue.answers() as answers:
            assert [one.id for one in answers] == ids
            assert [one.logits is None for one in answers] == [
                True, False, False
            ]  # fmt: skip
        (letter,) = queue.dead_letters()
        assert letter.reason == "damaged"
        # Its inputs are sound: it can be asked about again.
        assert letter.inputs["input"][0] == 0
        assert queue.requeue() == 1
        assert queue.waiting() == ids[:1]


def test_a_row_that_was_swapped_with_another_is_damaged(file):
    with opened(file) as queue:
        ids = put(queue, 2)
        queue.store(ids, np.eye(2, 4, dtype="float32"))
    with closing(sqlite3.connect(file)) as db:
        one, other = db.execute(
            "SELECT logits, answer_checksum FROM rows ORDER BY seq"
        ).fetchall()
        for row_id, values in zip(ids, (other, one), strict=True):
            db.execute(
                "UPDATE rows SET logits = ?, answer_checksum = ? WHERE id = ?",
                (*values, row_id),
            )
        db.commit()
    with opened(file) as queue, queue.answers() as answers:
        assert [row.logits for row in answers] == [None, None]


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_no_bit_of_the_file_makes_another_label(tmp_path_factory, data):
    """Any bit of the file, before the answer and after it.

    Where SQLite itself notices, a `QueueError` says so; a label is that of
    the row's own inputs, or there is none.
    """
    file = tmp_path_factory.mktemp("bits") / "queue"
    with opened(file) as queue:
        ids = put(queue, 6)
        answers = sums({"input": np.stack(
            [row.inputs["input"] for row in queue.read(ids)]
        )})  # fmt: skip
        expected = dict(zip(ids, answers, strict=True))
        stored = data.draw(st.integers(0, 6))
        queue.store(ids[:stored], answers[:stored])
    raw = bytearray(file.read_bytes())
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    file.write_bytes(raw)

    labels = {}
    try:
        with opened(file) as queue:
            sender = QueueSender(queue, ScriptedTeacher(sums))
            for _ in range(3):
                try:
                    sender.send()
                    with queue.answers() as rows:
                        for row in rows:
                            if row.logits is not None:
                                labels[row.id] = row.logits
                except QueueError:
                    continue
    except QueueError:
        pass
    for row_id, logits in labels.items():
        np.testing.assert_array_equal(logits, expected[row_id])


def test_a_log_reads_the_rest_and_says_so(tmp_path, caplog):
    x = {"input": np.arange(18, dtype="float32").reshape(3, 6)}
    with closing(TeacherLog(tmp_path / "log", SPECS, CLASSES)) as log:
        log.add(x, sums(x))
        assert log.read()[0]["input"].shape == (3, 6)
        assert log.damaged_rows == 0
    for column, seq in (("inputs", 1), ("logits", 3)):
        with closing(sqlite3.connect(tmp_path / "log")) as db:
            (raw,) = db.execute(
                f"SELECT {column} FROM rows WHERE seq = ?", (seq,)
            ).fetchone()
            raw = raw[:-1] + bytes([raw[-1] ^ 64])
            db.execute(
                f"UPDATE rows SET {column} = ? WHERE seq = ?", (raw, seq)
            )
            db.commit()
    with closing(TeacherLog(tmp_path / "log")) as log:
        inputs, logits = log.read()
        np.testing.assert_array_equal(inputs["input"], x["input"][1:2])
        np.testing.assert_array_equal(logits, sums(x)[1:2])
        assert log.damaged_rows == 2
        assert "2 of 3 rows" in caplog.text
    with closing(sqlite3.connect(tmp_path / "log")) as db:
        db.execute("UPDATE rows SET checksum = NULL")
        db.commit()
    with (
        closing(TeacherLog(tmp_path / "log")) as log,
        pytest.raises(ValueError, match="none that are not damaged"),
    ):
        log.read()


# Through the cascade.


def picky(inputs):
    """Rejects batches, and the row whose first value is the largest."""
    if len(inputs["input"]) > 1 or inputs["input"][0, 0] == picky.worst:
        raise TeacherError("status 400: too odd", about_input=True)
    return sums(inputs)


def test_dead_letters_of_a_cascade(bundle_path, blobs, tmp_path):
    with EdgeCascade.load(
        bundle_path,
        ScriptedTeacher(unavailable()),
        on_failure="queue",
        queue=tmp_path / "queue",
        retries=0,
    ) as edge:
        found = edge.predict(blobs(60)[0])
        ids = [row_id for row_id in found.ids if row_id]
        (row,) = edge.queue.read(ids[4:5])
        picky.worst = row.inputs["input"][0]
        edge.teacher.script = [picky]
        assert edge.send_queued() == len(ids) - 1
        status = edge.queue_status()
        assert (status.waiting, status.answered, status.dead_letters) == (
            0, len(ids) - 1, 1
        )  # fmt: skip
        assert (status.sending, status.error) == (False, None)
        with edge.queued_answers() as late:
            assert late.source[4] == "refused"
            assert late.labels[4] == -1
        (letter,) = edge.dead_letters()
        np.testing.assert_array_equal(
            letter.inputs["input"], row.inputs["input"]
        )
        edge.teacher.script = [sums]
        assert edge.requeue([letter.id]) == edge.send_queued() == 1
        with edge.queued_answers() as late:
            assert late.ids == [letter.id]
            assert late.source.tolist() == ["cloud"]
        edge.queue.reject(put(edge.queue, 1)[0], "no")
        assert edge.drop([one.id for one in edge.dead_letters()]) == 1


def test_a_damaged_row_of_a_cascade(bundle_path, blobs, tmp_path):
    options = {
        "on_failure": "queue", "queue": tmp_path / "queue", "retries": 0
    }  # fmt: skip
    with EdgeCascade.load(bundle_path, **options) as edge:
        ids = [i for i in edge.predict(blobs(60)[0]).ids if i]
    altered(tmp_path / "queue", "inputs", ids[1])
    with EdgeCascade.load(
        bundle_path, ScriptedTeacher(sums), **options
    ) as edge:
        assert edge.send_queued() == len(ids) - 1
        with edge.queued_answers() as late:
            assert late.ids == ids
            assert late.source[1] == "refused"
            assert late.labels[1] == -1
            assert np.isnan(late.probabilities[1]).all()
            assert late.operating_point == "default"
            assert "is damaged" in late.teacher_error


def test_dead_letters_with_await(bundle_path, blobs, tmp_path):
    import asyncio

    async def ask():
        async with AsyncEdgeCascade.load(
            bundle_path,
            ScriptedTeacher(TeacherError("no", about_input=True)),
            on_failure="queue",
            queue=tmp_path / "queue",
        ) as edge:
            ids = put(edge.edge.queue, 2)
            assert await edge.send_queued() == 0
            assert (await edge.queue_status()).dead_letters == 2
            assert [one.id for one in await edge.dead_letters(1)] == ids[:1]
            assert await edge.drop(ids[:1]) == 1
            assert await edge.requeue() == 1

    asyncio.run(ask())
