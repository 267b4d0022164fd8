"""Texts in `TeacherQueue` and `TeacherLog`."""

import numpy as np
import pytest
import tensorflow as tf

from keras_cascade.datasets.fingerprint import example_hashes
from keras_cascade.runtime import TeacherError, TeacherLog, TeacherQueue
from keras_cascade.runtime.inputs import prepare_inputs
from keras_cascade.runtime.queueing.queue_sender import QueueSender
from keras_cascade.teacher_logits import cache_teacher_log

ONE = [{"name": "text", "shape": [None], "dtype": "string", "range": None}]
PAIR = [
    {"name": "premise", "shape": [None], "dtype": "string"},
    {"name": "weight", "shape": [None, 2], "dtype": "float32"},
    {"name": "hypothesis", "shape": [None], "dtype": "string"},
]
TEXTS = ["plain", "nul\0 at its end\0", "👩‍👩‍👧 e\u0301", "漢字" * 100, "a"]


class Lengths:
    """Answers with each text's length and 0; rejects some."""

    def __init__(self, refused=()):
        self.refused = refused
        self.asked = []

    def logits(self, inputs):
        texts = inputs["text"].tolist()
        self.asked.append(texts)
        if set(texts) & set(self.refused):
            raise TeacherError("no", about_input=True)
        return np.array([[len(text), 0] for text in texts], "float32")


@pytest.fixture
def queue(tmp_path):
    opened = TeacherQueue(tmp_path / "queue", ONE, ["a", "b"])
    yield opened
    opened.close()


@pytest.fixture
def log(tmp_path):
    """A function that opens the same log, with options."""
    opened = []

    def open_log(specs=ONE, **options):
        opened.append(
            TeacherLog(tmp_path / "log", specs, ["a", "b"], **options)
        )
        return opened[-1]

    yield open_log
    for one in opened:
        one.close()


def put(queue, texts):
    flat = np.full((len(texts), 2), 0.5, "float32")
    return queue.put(
        prepare_inputs(texts, ONE), np.zeros(len(texts)), flat, "default"
    )


def test_queued_texts_are_sent_as_they_were(queue):
    ids = put(queue, TEXTS)
    teacher = Lengths()
    assert QueueSender(queue, teacher).send() == len(TEXTS)
    assert teacher.asked == [TEXTS]  # of any lengths, in one request
    with queue.answers() as rows:
        assert [row.id for row in rows] == ids
        assert [row.inputs["text"].item() for row in rows] == TEXTS
        assert [row.logits[0] for row in rows] == [len(t) for t in TEXTS]


def test_one_text_that_is_refused_leaves_the_others(queue):
    put(queue, TEXTS)
    assert QueueSender(queue, Lengths(refused=["plain"])).send() == 4
    with queue.answers() as rows:
        refused = [
            row.inputs["text"].item() for row in rows if row.error_message
        ]
    assert refused == ["plain"]


def test_a_log_gives_texts_back(log):
    inputs = prepare_inputs(TEXTS, ONE)
    logits = np.eye(2, dtype="float32")[[0, 1, 0, 1, 0]]
    first = log()
    first.add(inputs, logits)
    first.close()
    found, answers = log().read()
    assert found["text"].dtype == object
    assert found["text"].tolist() == TEXTS
    np.testing.assert_array_equal(answers, logits)


def test_several_inputs(log):
    inputs = prepare_inputs(
        {
            "premise": ["a", "b\0"],
            "weight": [[1, 2], [3, 4]],
            "hypothesis": ["c", "é"],
        },
        PAIR,
    )
    one = log(PAIR)
    one.add(inputs, np.eye(2, dtype="float32"))
    found, _ = one.read()
    for name, array in inputs.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("form", [str, str.encode, lambda t: np.array(t)])
def test_redact_returns_another_text(log, form):
    def redact(row):
        text = row["text"]
        assert type(text) is str
        if text == "a":
            return None
        return {"text": form(text.replace("plain", "*****"))}

    one = log(redact=redact)
    one.add(prepare_inputs([*TEXTS[:1], "a", "b"], ONE), np.ones((3, 2), "f4"))
    assert one.read()[0]["text"].tolist() == ["*****", "b"]


def test_redact_must_leave_text(log):
    one = log(redact=lambda row: {"text": ""})
    with pytest.raises(ValueError, match=r"'text'\. Received an empty string"):
        one.add(prepare_inputs("secret", ONE), np.ones((1, 2), "f4"))


def test_logged_texts_are_known_again_in_training(log, tmp_path):
    """Both as `str` and as the bytes of tf.data."""
    logits = np.eye(2, dtype="float32")[[0, 1, 0, 1, 1]]
    one = log()
    for _ in range(2):
        one.add(prepare_inputs(TEXTS, ONE), logits)
    x, y, cache = cache_teacher_log(one, tmp_path / "cache")
    assert x.tolist() == TEXTS
    assert {type(text) for text in x} == {str}
    assert y.tolist() == [0, 1, 0, 1, 1]
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(2)
    read = np.concatenate([batch.numpy() for batch, _ in dataset])
    assert {type(text) for text in read} == {bytes}
    np.testing.assert_array_equal(example_hashes(read), example_hashes(x))
    # Kept up to a row's constant: its largest is 0.
    np.testing.assert_array_equal(cache.logits(read), logits - 1)
