"""Policies that look at labels only do not run the teacher in training."""

import keras
import numpy as np
import pytest

import keras_cascade as kc
from keras_cascade.teacher_checks import EXAMPLES

OF_LABELS = {
    "oracle": lambda: kc.distillation.StandardDistillation(oracle=True),
    "labels": lambda: kc.distillation.StandardDistillation(
        student_loss_weight=1.0
    ),
    "margin": lambda: kc.distillation.MarginDistillation(oracle=True),
    "class_specific": lambda: kc.distillation.ClassSpecificDistillation(
        [0], oracle=True
    ),
    "combined": lambda: kc.distillation.CombinedDistillation(
        kc.distillation.StandardDistillation(oracle=True),
        [keras.losses.SparseCategoricalCrossentropy(from_logits=True)],
        [0.0],
    ),
}
OF_THE_TEACHER = {
    "standard": "standard",
    "cascade_aware": lambda: kc.distillation.CascadeAwareDistillation(
        oracle=True
    ),
    "combined": lambda: kc.distillation.CombinedDistillation(
        kc.distillation.StandardDistillation(oracle=True),
        [
            keras.distillation.LogitsDistillation(
                loss=keras.losses.KLDivergence()
            )
        ],
    ),
}


class Counting:
    """Teacher of four classes that counts the rows it answers."""

    rows = 0

    def __call__(self, x):
        self.rows += len(x)
        return x[:, :4]


class LooksAtTheTeacher(kc.distillation.Gatekeeper):
    """Subclass that says nothing of the teacher, and looks at it."""

    def selected(self, labels, teacher_logits, student_logits=None):
        return teacher_logits[:, 0] > 0


def rows_of_training(policy, student, blobs):
    """Rows that the teacher answers in a `fit` of 640, and its history."""
    teacher = Counting()
    policy = policy() if callable(policy) else policy
    cascade = kc.Cascade(teacher, student, distillation=policy)
    cascade.compile("adam")
    cascade.fit(*blobs(64, seed=1), verbose=0)
    teacher.rows = 0
    history = cascade.fit(*blobs(640, seed=2), verbose=0).history
    return teacher.rows, history


@pytest.mark.filterwarnings("ignore:MarginDistillation selected")
@pytest.mark.parametrize("name", OF_LABELS)
def test_the_teacher_does_not_run(name, dense_model, blobs):
    rows, history = rows_of_training(OF_LABELS[name], dense_model(2), blobs)
    assert rows == EXAMPLES  # looked at before training
    assert not {"teacher_accuracy", "cascade_accuracy"} & set(history)
    assert {"loss", "student_accuracy", "delegation_rate"} <= set(history)


def test_gatekeeper_and_its_subclass(dense_model, blobs):
    plain = kc.distillation.Gatekeeper()
    assert rows_of_training(plain, dense_model(2), blobs)[0] == EXAMPLES
    own = rows_of_training(LooksAtTheTeacher(), dense_model(2), blobs)
    assert own[0] == 640
    assert "teacher_accuracy" in own[1]


@pytest.mark.parametrize("name", OF_THE_TEACHER)
def test_the_teacher_runs_where_it_is_needed(name, dense_model, blobs):
    rows, history = rows_of_training(
        OF_THE_TEACHER[name], dense_model(2), blobs
    )
    assert rows == 640
    assert "teacher_accuracy" in history


def test_the_student_is_that_of_plain_keras(dense_model, blobs):
    x, y = blobs(256, seed=2)
    plain, student = dense_model(2), dense_model(2)
    student.set_weights(plain.get_weights())
    plain.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    expected = plain.fit(x, y, epochs=2, shuffle=False, verbose=0).history
    cascade = kc.Cascade(
        dense_model(8),
        student,
        distillation=kc.distillation.StandardDistillation(oracle=True),
    )
    cascade.compile(keras.optimizers.SGD(0.1))
    history = cascade.fit(x, y, epochs=2, shuffle=False, verbose=0).history
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-5)
    for own, other in zip(student.weights, plain.weights, strict=True):
        np.testing.assert_allclose(own, other, atol=1e-6)


def test_validation_and_evaluate_know_the_teacher(dense_model, blobs):
    cascade = kc.Cascade(
        dense_model(2), dense_model(2), distillation=OF_LABELS["oracle"]()
    )
    cascade.compile("adam", metrics=[kc.metrics.CascadeAccuracyAt(0.2)])
    held_out = blobs(64, seed=3)
    history = cascade.fit(
        *blobs(64, seed=2), validation_data=held_out, verbose=0
    ).history
    assert "cascade_accuracy_at_0.2" not in history
    results = cascade.evaluate(*held_out, verbose=0, return_dict=True)
    for name in ("teacher_accuracy", "cascade_accuracy_at_0.2"):
        assert history[f"val_{name}"][-1] == pytest.approx(results[name])
