"""`TeacherLog`, and training on it."""

import logging

import keras
import numpy as np
import pytest

import keras_cascade as kc
from keras_cascade.runtime import EdgeCascade, QueueError, TeacherLog
from keras_cascade.teacher_logits import cache_teacher_log
from tests.helpers.scripted_teacher import ScriptedTeacher, sums, unavailable

SPECS = [{"name": "input", "shape": [None, 6], "dtype": "float32"}]
CLASSES = ["a", "b", "c", "d"]


@pytest.fixture
def log(tmp_path):
    """A function that opens the same file, with options."""
    opened = []

    def open_log(**options):
        opened.append(TeacherLog(tmp_path / "log", SPECS, CLASSES, **options))
        return opened[-1]

    yield open_log
    for one in opened:
        one.close()


def numbered(rows, start=0):
    x = np.arange(start, start + rows, dtype="float32")
    x = {"input": np.repeat(x[:, None], 6, axis=1)}
    return x, sums(x)


def first_column(log):
    return log.read()[0]["input"][:, 0].tolist()


def test_delegated_rows_are_logged_with_their_answers(
    bundle_path, blobs, students_answer, tmp_path
):
    x, _ = blobs(60)
    delegated = x[students_answer(x)["delegate"]]
    teacher = ScriptedTeacher(unavailable(), sums)
    with EdgeCascade.load(
        bundle_path, teacher, retries=0, log=tmp_path / "log"
    ) as edge:
        edge.predict(x)
        assert len(edge.log) == 0  # nobody answered
        edge.predict(x)
        assert len(edge.log) == len(delegated)
    again = TeacherLog(tmp_path / "log")
    assert again.classes == CLASSES
    inputs, logits = again.read()
    np.testing.assert_array_equal(inputs["input"], delegated)
    np.testing.assert_array_equal(logits, sums({"input": delegated}))
    again.clear()
    assert len(again) == 0
    with pytest.raises(ValueError, match="There are none"):
        again.read()
    again.close()


def test_late_answers_are_kept_too(bundle_path, blobs, tmp_path):
    teacher = ScriptedTeacher(unavailable(), sums)
    with EdgeCascade.load(
        bundle_path,
        teacher,
        on_failure="queue",
        retries=0,
        queue=tmp_path / "queue",
        log=tmp_path / "log",
    ) as edge:
        edge.predict(blobs(60)[0])
        assert len(edge.log) == 0
        assert edge.send_queued() == len(edge.log) > 0


def test_nothing_is_kept_unasked(bundle_path, blobs, tmp_path):
    with EdgeCascade.load(bundle_path, ScriptedTeacher(sums)) as edge:
        edge.predict(blobs(60)[0])
        assert edge.log is None
    assert list(tmp_path.iterdir()) == []


def test_the_oldest_make_room(log):
    small = log(max_rows=5)
    small.add(*numbered(4))
    small.add(*numbered(3, start=4))
    assert first_column(small) == [2, 3, 4, 5, 6]
    small.add(*numbered(7, start=10))
    assert first_column(small) == [12, 13, 14, 15, 16]


def test_bytes_are_bounded_too(log, caplog):
    # A .npy header of 128 bytes and six floats of 4 bytes: 152 a row.
    small = log(max_bytes=3 * 152 + 151)
    small.add(*numbered(5))
    assert first_column(small) == [2, 3, 4]
    small.close()
    tiny = log(max_bytes=151)
    tiny.add(*numbered(2, start=7))
    assert "2 rows are longer" in caplog.text
    assert len(tiny) == 0


def test_a_hook_redacts_or_drops(log):
    def redact(inputs):
        if inputs["input"][0] == 1:
            return None
        inputs["input"][1:] = 0
        return inputs

    x, logits = numbered(3)
    redacting = log(redact=redact)
    redacting.add(x, logits)
    inputs, kept = redacting.read()
    np.testing.assert_array_equal(
        inputs["input"], [[0, 0, 0, 0, 0, 0], [2, 0, 0, 0, 0, 0]]
    )
    np.testing.assert_array_equal(kept, logits[[0, 2]])
    # The hook got copies.
    assert (x["input"][2] == 2).all()


def test_a_hook_that_returns_another_form_is_an_error(log):
    with pytest.raises(ValueError, match="Expected input 'input' of shape"):
        log(redact=lambda row: {"input": row["input"][:2]}).add(*numbered(1))


def test_a_full_disk_does_not_cost_the_prediction(
    bundle_path, blobs, tmp_path, monkeypatch, caplog
):
    def full(*_):
        raise QueueError("no room")

    with (
        caplog.at_level(logging.WARNING),
        EdgeCascade.load(
            bundle_path, ScriptedTeacher(sums), log=tmp_path / "log"
        ) as edge,
    ):
        monkeypatch.setattr(edge.log, "_write", full)
        assert "cloud" in edge.predict(blobs(60)[0]).source
    assert "rows were not logged: no room" in caplog.text


def test_files_and_limits(tmp_path, log):
    with pytest.raises(QueueError, match="There is none"):
        TeacherLog(tmp_path / "nowhere")
    (tmp_path / "empty").touch()
    with pytest.raises(QueueError, match="is not a log"):
        TeacherLog(tmp_path / "empty")
    with pytest.raises(ValueError, match="max_rows"):
        log(max_rows=0)
    log().close()
    with pytest.raises(QueueError, match="other inputs or classes"):
        TeacherLog(tmp_path / "log", SPECS, ["x", "y"])


def test_rows_of_several_sizes(tmp_path):
    free = [{"name": "input", "shape": [None, None], "dtype": "float32"}]
    log = TeacherLog(tmp_path / "log", free, CLASSES)
    for size in (2, 3):
        x = np.ones((1, size), "float32")
        log.add({"input": x}, sums({"input": x}))
    with pytest.raises(ValueError, match="rows of one size"):
        log.read()
    log.close()


# The flywheel: from a device back into `fit`.


@pytest.fixture
def logged(bundle_path, blobs, tmp_path):
    """A device's log, with the bundle's own teacher."""
    x, _ = blobs(120, seed=5)
    with EdgeCascade.load(bundle_path, "local", log=tmp_path / "log") as edge:
        edge.predict(x)
        edge.predict(x)  # logged twice
    return tmp_path / "log"


def test_a_log_becomes_training_data(
    logged, blobs, students_answer, tmp_path, bundle_path, cascade
):
    x, _ = blobs(120, seed=5)
    delegated = x[students_answer(x)["delegate"]]
    x_new, y_new, cache = cache_teacher_log(logged, tmp_path / "cache")
    np.testing.assert_array_equal(x_new, delegated)
    teacher = kc.runtime.SavedModelTeacher(bundle_path / "teacher" / "1")
    logits = teacher.logits({"input": delegated})
    np.testing.assert_array_equal(y_new, logits.argmax(axis=1))
    # A cache shifts every row so that its largest logit is 0.
    np.testing.assert_allclose(
        cache.logits(x_new),
        logits - logits.max(axis=1, keepdims=True),
        atol=1e-5,
    )
    before = cascade.student.get_weights()
    cascade.fit(x_new, y_new, epochs=1, verbose=0, teacher_logits=cache)
    after = cascade.student.get_weights()
    assert any((a != b).any() for a, b in zip(before, after, strict=True))


def test_beside_the_data_of_before(cascade, blobs, tmp_path):
    """One cache for both; the teacher is checked."""
    x, y = blobs(64)
    old = kc.cache_teacher_logits((x, y), cascade.teacher, tmp_path / "old")
    new = np.concatenate([blobs(32, seed=8)[0], x[:4]])
    log = TeacherLog(tmp_path / "log", SPECS, CLASSES)
    log.add({"input": new}, keras.ops.convert_to_numpy(cascade.teacher(new)))
    x_new, y_new, cache = cache_teacher_log(
        log, tmp_path / "new", extend=old, teacher=cascade.teacher
    )
    log.close()
    assert len(x_new) == 36
    assert len(cache) == 64 + 32
    np.testing.assert_array_equal(cache.logits(x), old.logits(x))
    cascade.fit(
        np.concatenate([x, x_new]),
        np.concatenate([y, y_new]),
        epochs=1,
        verbose=0,
        teacher_logits=cache,
    )


def test_answers_of_another_teacher_are_found_out(cascade, blobs, tmp_path):
    x, _ = blobs(40)
    log = TeacherLog(tmp_path / "log", SPECS, CLASSES)
    log.add({"input": x}, sums({"input": x}))
    x, y, cache = cache_teacher_log(
        log, tmp_path / "cache", teacher=cascade.teacher
    )
    with pytest.raises(ValueError, match="differ from the teacher's"):
        cascade.fit(x, y, verbose=0, teacher_logits=cache)
    with pytest.raises(ValueError, match="exists already"):
        cache_teacher_log(log, tmp_path / "cache")
    log.close()


def test_caches_that_cannot_be_extended(cascade, blobs, tmp_path, dense_model):
    x, _ = blobs(40)
    log = TeacherLog(tmp_path / "log", SPECS, CLASSES)
    log.add({"input": x}, sums({"input": x}))
    three = kc.cache_teacher_logits(
        x, dense_model(2, classes=3), tmp_path / "three"
    )
    with pytest.raises(ValueError, match="cache of 4 classes"):
        cache_teacher_log(log, tmp_path / "a", extend=three)
    four = kc.cache_teacher_logits(x, dense_model(2), tmp_path / "four")
    with pytest.raises(ValueError, match="other weights"):
        cache_teacher_log(
            log, tmp_path / "b", extend=four, teacher=cascade.teacher
        )
    many = kc.cache_teacher_logits(
        x,
        dense_model(2),
        tmp_path / "many",
        views=2,
        augment=lambda example, seed: example,
    )
    with pytest.raises(ValueError, match="plain examples"):
        cache_teacher_log(log, tmp_path / "c", extend=many)
    log.close()


@pytest.mark.parametrize("top_k", [None, 2])
def test_a_log_of_several_batches(cascade, tmp_path, top_k):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 6)).astype("float32")
    x[300:310] = x[:10]  # in another batch
    x[5] = x[4]  # in the same one
    logits = rng.normal(size=(600, 4)).astype("float32")
    log = TeacherLog(tmp_path / "log", SPECS, CLASSES)
    log.add({"input": x}, logits)
    batches = [len(answers) for _, answers in log.read_batches(256)]
    assert batches == [256, 256, 88]
    x_new, y_new, cache = cache_teacher_log(log, tmp_path / "c", top_k=top_k)
    _, first = np.unique(x, axis=0, return_index=True)
    first = np.sort(first)
    np.testing.assert_array_equal(x_new, x[first])
    np.testing.assert_array_equal(y_new, logits[first].argmax(axis=1))
    assert (len(cache), cache.top_k) == (len(first), top_k)
    answers, confidence = cache.answers(x_new)
    np.testing.assert_array_equal(answers, y_new)
    shares = np.exp(logits[first].astype("float64"))
    np.testing.assert_allclose(
        confidence, shares.max(axis=1) / shares.sum(axis=1), atol=1e-5
    )
    with pytest.raises(ValueError, match="`top_k` from 2 to 3"):
        cache_teacher_log(log, tmp_path / "d", top_k=4)
    assert not (tmp_path / "d").exists()
    with pytest.raises(ValueError, match="`top_k` of the cache"):
        cache_teacher_log(log, tmp_path / "d", extend=cache, top_k=3)
    log.close()


def test_batches_leave_damaged_rows_out(log, caplog):
    made = log()
    made.add(*numbered(5))
    with made._file.transaction() as db:
        db.execute("UPDATE rows SET checksum = x'00' WHERE seq IN (1, 2)")
    batches = [inputs["input"][:, 0].tolist() for inputs, _ in
               made.read_batches(2)]  # fmt: skip
    assert batches == [[2.0, 3.0], [4.0]]
    assert made.damaged_rows == 2
    assert "2 of 5 rows" in caplog.text
