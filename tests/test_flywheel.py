"""Training on a device's log: the student learns from delegated rows."""

import keras
import numpy as np
import pytest

import keras_cascade as kc
from keras_cascade.runtime import EdgeCascade
from keras_cascade.teacher_logits import cache_teacher_log

UNKNOWN = 3  # the class that the student's own data lacks
EPOCHS = 15


def log_softmax(logits):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def against_teacher(cascade, x):
    """Cross-entropy to the teacher, and the share of equal top classes."""
    student, teacher = (
        model.predict(x, verbose=0)
        for model in (cascade.student, cascade.teacher)
    )
    target = np.exp(log_softmax(teacher))
    loss = -(target * log_softmax(student)).sum(axis=1).mean()
    return loss, (student.argmax(axis=1) == teacher.argmax(axis=1)).mean()


@pytest.fixture
def old(blobs):
    """The training data, in which one class is missing."""
    x, y = blobs(400, seed=21)
    return x[y != UNKNOWN], y[y != UNKNOWN]


@pytest.fixture
def trained(cascade, old, blobs):
    """A cascade whose teacher has learned a class that its student has not."""
    cascade.fit(*old, epochs=EPOCHS, verbose=0)
    cascade.calibrate(blobs(400, seed=22), kc.MaxDelegationRate(0.5))
    return cascade


def traffic(blobs, seed):
    """Live traffic with a large share of the unknown class."""
    x, y = blobs(500, seed=seed)
    return np.concatenate([x, x[y == UNKNOWN] + 0.1])


def test_the_student_learns_from_what_it_delegated(
    trained, old, blobs, tmp_path
):
    bundle = trained.export(tmp_path / "bundle")
    logs = {}
    for name, seed in (("seen", 23), ("fresh", 24)):
        with EdgeCascade.load(
            bundle.path, "local", "raise", log=tmp_path / name
        ) as edge:
            found = edge.predict(traffic(blobs, seed))
            assert len(edge.log) == (found.source == "cloud").sum() > 50
            logs[name] = edge.log.read()[0]["input"]
    x_old, y_old = old
    before = kc.cache_teacher_logits(
        (x_old, y_old), trained.teacher, tmp_path / "cache"
    )
    x_new, y_new, cache = cache_teacher_log(
        tmp_path / "seen", tmp_path / "more", extend=before,
        teacher=trained.teacher,
    )  # fmt: skip
    np.testing.assert_array_equal(x_new, logs["seen"])

    start = trained.student.get_weights()
    figures = {
        "start": {k: against_teacher(trained, x) for k, x in logs.items()}
    }
    for name, x, y, logits in (
        ("without the log", x_old, y_old, before),
        (
            "with the log",
            np.concatenate([x_old, x_new]),
            np.concatenate([y_old, y_new]),
            cache,
        ),
    ):
        trained.student.set_weights(start)
        trained.compile(optimizer=keras.optimizers.Adam(1e-2))
        trained.fit(x, y, epochs=EPOCHS, verbose=0, teacher_logits=logits)
        figures[name] = {
            k: against_teacher(trained, x) for k, x in logs.items()
        }

    # On the logged rows, and on such that nobody logged: nearer to the
    # teacher than before, and than as much training without the log brings.
    for rows in ("seen", "fresh"):
        loss, agreement = figures["with the log"][rows]
        for other in ("start", "without the log"):
            assert loss < 0.8 * figures[other][rows][0], figures
            assert agreement > figures[other][rows][1] + 0.1, figures
