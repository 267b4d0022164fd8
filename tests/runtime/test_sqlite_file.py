"""Privacy of `TeacherQueue` and `TeacherLog` on the disk, and their upgrade."""

import os
import shutil
import sqlite3
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest

from keras_cascade.runtime import QueueError, TeacherLog, TeacherQueue
from keras_cascade.runtime.queueing import sqlite_file

SPECS = [{"name": "text", "shape": [None], "dtype": "string", "range": None}]
CLASSES = ["a", "b"]
SECRET = "a secret that nobody else may read " * 200
ARCHIVE = Path(__file__).parents[1] / "files_of_0_1_0" / "files.zip"


@pytest.fixture
def umask():
    """A function that sets the umask until the test ends."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.fixture(params=[TeacherQueue, TeacherLog])
def kind(request):
    return request.param


def store(file, text=SECRET):
    x = {"text": np.array([text], object)}
    flat = np.full((1, 2), 0.5, "float32")
    if isinstance(file, TeacherLog):
        file.add(x, flat)
    else:
        file.put(x, [0.0], flat, "default")


def modes(folder):
    return {
        name: stat.S_IMODE((folder / name).stat().st_mode)
        for name in os.listdir(folder)
    }


def found_on_disk(folder):
    return [
        file.name
        for file in folder.iterdir()
        if SECRET[:20].encode() in file.read_bytes()
    ]


@pytest.mark.parametrize("mask", [0, 0o022, 0o777])
def test_private_from_the_first_byte(kind, tmp_path, umask, monkeypatch, mask):
    seen, real = [], sqlite3.connect

    def connect(path, **options):
        seen.append(modes(tmp_path))
        return real(path, **options)

    monkeypatch.setattr(sqlite_file.sqlite3, "connect", connect)
    umask(mask)
    file = kind(tmp_path / "file", SPECS, CLASSES)
    store(file)
    seen.append(modes(tmp_path))
    file.close()
    assert seen == [{"file": 0o600}, {"file": 0o600, "file-wal": 0o600}]


def test_private_behind_a_link_to_nothing(kind, tmp_path, umask):
    umask(0)
    (tmp_path / "link").symlink_to("file")
    file = kind(tmp_path / "link", SPECS, CLASSES)
    store(file)
    assert modes(tmp_path) == {
        "file": 0o600, "file-wal": 0o600, "link": 0o600
    }  # fmt: skip
    file.close()


def test_an_open_file_is_made_private(kind, tmp_path):
    kind(tmp_path / "file", SPECS, CLASSES).close()
    (tmp_path / "file").chmod(0o664)
    file = kind(tmp_path / "file", SPECS, CLASSES)
    store(file)
    assert set(modes(tmp_path).values()) == {0o600}
    file.close()


def test_what_a_queue_has_removed_is_overwritten(tmp_path):
    queue = TeacherQueue(tmp_path / "queue", SPECS, CLASSES)
    for end in ("removed", "answered", "dropped"):
        store(queue)
        (row_id,) = queue.waiting()
        assert found_on_disk(tmp_path)
        if end == "removed":
            queue.remove([row_id])
        elif end == "answered":
            queue.store([row_id], np.zeros((1, 2), "float32"))
            with queue.answers():
                assert found_on_disk(tmp_path)
        else:
            queue.reject(row_id, "no")
            assert queue.drop([row_id]) == 1
        assert not found_on_disk(tmp_path), end
    queue.close()
    assert not found_on_disk(tmp_path)


def test_what_a_log_has_removed_is_overwritten(tmp_path):
    log = TeacherLog(tmp_path / "log", SPECS, CLASSES, max_rows=2)
    store(log)
    assert found_on_disk(tmp_path)
    store(log, "x")
    assert found_on_disk(tmp_path)
    store(log, "y")  # the oldest makes room
    assert not found_on_disk(tmp_path)
    store(log)
    log.clear()
    assert not found_on_disk(tmp_path)
    log.close()


def test_what_was_removed_before_a_kill_is_overwritten_later(
    tmp_path, monkeypatch
):
    """Killed between the transaction and the write-ahead log's end."""
    queue = TeacherQueue(tmp_path / "queue", SPECS, CLASSES)
    store(queue)
    monkeypatch.setattr(sqlite_file, "_empty_write_ahead_log", lambda db: None)
    queue.remove(queue.waiting())
    monkeypatch.undo()
    copy = tmp_path / "killed"
    copy.mkdir()
    for file in tmp_path.glob("queue*"):
        shutil.copy(file, copy)
    queue.close()
    assert found_on_disk(copy)
    TeacherQueue(copy / "queue", SPECS, CLASSES).close()
    assert not found_on_disk(copy)


def test_a_closed_file_says_so(kind, tmp_path):
    file = kind(tmp_path / "file", SPECS, CLASSES)
    file.close()
    file.close()
    with pytest.raises(QueueError, match=r"is closed\. Open it again\.$"):
        len(file)


# Files of version 1.


@pytest.fixture
def first_version(tmp_path):
    """A function that unpacks a file of 0.1.0."""

    def unpack(name):
        with zipfile.ZipFile(ARCHIVE) as archive:
            return Path(archive.extract(name, tmp_path))

    return unpack


def about(file):
    db = sqlite3.connect(file)
    try:
        (made_for,) = db.execute("SELECT made_for FROM about").fetchone()
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (rows,) = db.execute("SELECT COUNT(*) FROM rows").fetchone()
    finally:
        db.close()
    return sqlite_file.json.loads(made_for), version, rows


def opened(file):
    format_, _, _ = about(file)
    specs = [{"name": n, "dtype": d} for n, d in format_["inputs"]]
    return TeacherQueue(file, specs, format_["classes"])


def test_a_queue_of_version_1(first_version):
    """Waiting, answered and refused rows, one damaged."""
    file = first_version("queue.sqlite")
    _, version, count = about(file)
    assert version == 1
    db = sqlite3.connect(file)
    before = db.execute(
        "SELECT id, inputs, score FROM rows ORDER BY seq"
    ).fetchall()
    ids = [row[0] for row in before]
    other = db.execute("SELECT probabilities FROM rows").fetchone()[0]
    db.execute("UPDATE rows SET logits = ? WHERE id = ?", (other, ids[0]))
    db.execute("UPDATE rows SET refusal = 'no' WHERE id = ?", (ids[1],))
    db.execute("UPDATE rows SET inputs = x'00' WHERE id = ?", (ids[2],))
    db.execute("UPDATE rows SET inputs = 'text' WHERE id = ?", (ids[3],))
    db.commit()
    db.close()

    queue = opened(file)
    assert queue.waiting() == ids[2:]
    rows = queue.read(ids[4:])
    assert [row.id for row in rows] == ids[4:]
    for row, (_, raw, score) in zip(rows, before[4:], strict=True):
        (values,) = row.inputs.values()
        assert values.tobytes() == raw[-values.nbytes :]
        assert row.score == score
    assert queue.read(ids[2:4]) == []
    with queue.answers() as answers:
        assert [row.id for row in answers] == ids[:4]
        assert [row.logits is None for row in answers] == [False] + [True] * 3
    assert [letter.reason for letter in queue.dead_letters()] == [
        "refused", "damaged", "damaged"
    ]  # fmt: skip
    queue.close()
    _, version, left = about(file)
    assert (version, left) == (2, count - 1)
    opened(file).close()


def test_an_upgrade_that_fails_changes_nothing(first_version, monkeypatch):
    file = first_version("queue.sqlite")
    content = file.read_bytes()
    broken = (*teacher_queue_tables(), "CREATE nonsense")
    monkeypatch.setattr(
        "keras_cascade.runtime.queueing.teacher_queue.TABLES", broken
    )
    with pytest.raises(QueueError, match="syntax error"):
        opened(file)
    monkeypatch.undo()
    _, version, _ = about(file)
    assert version == 1
    # But for the journal mode in the header, which version 1 set as well.
    assert file.read_bytes()[100:] == content[100:]
    queue = opened(file)
    assert len(queue.waiting()) == 14
    queue.close()


def teacher_queue_tables():
    from keras_cascade.runtime.queueing import teacher_queue

    return teacher_queue.TABLES


def test_a_log_of_version_1(first_version):
    file = first_version("log.sqlite")
    db = sqlite3.connect(file)
    db.execute("UPDATE rows SET logits = 'text' WHERE seq = 3")
    db.commit()
    db.close()
    log = TeacherLog(file)
    _, logits = log.read()
    assert len(logits) == 13
    assert log.damaged_rows == 1
    log.close()
    assert about(file)[1:] == (2, 14)
    again = TeacherLog(file)
    np.testing.assert_array_equal(again.read()[1], logits)
    again.close()
