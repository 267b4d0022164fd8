"""Cascades of every task: trained, measured, calibrated, saved."""

import keras
import numpy as np
import pytest
import scipy.special
from sklearn import metrics

import keras_cascade as kc
from tests.helpers.trained_task_cascades import TASKS, cascade, labelled, models

KINDS = list(TASKS)


def losses_by_hand(kind, x, y, model):
    """Loss of each example, of a model's outputs, in NumPy."""
    outputs = model.predict(x, verbose=0)
    if kind == "pixels":
        return (outputs.argmax(axis=-1) != y).mean(axis=(1, 2)) > 0.3
    if kind in ("regression", "quantiles"):
        if outputs.shape[1] == 4:  # the student
            first, second = outputs[:, :2], outputs[:, 2:]
            outputs = first if kind == "regression" else (first + second) / 2
        return np.abs(outputs - y).max(axis=1) > 0.7
    measure = {
        "multilabel": metrics.zero_one_loss,
        "hamming": metrics.hamming_loss,
    }[kind]
    rows = [slice(i, i + 1) for i in range(len(y))]
    return np.array([measure(y[i], outputs[i] >= 0) for i in rows])


@pytest.mark.parametrize("kind", KINDS)
def test_from_training_to_the_file(kind, tmp_path):
    made = cascade(kind)
    before = made.teacher.get_weights()
    own = {id(v) for v in made.teacher.variables}
    assert not own & {id(v) for v in made.trainable_variables}
    history = made.fit(
        *labelled(kind, 256, seed=1), epochs=4, batch_size=16, verbose=0
    ).history
    assert history["loss"][-1] < history["loss"][0]
    for one, other in zip(before, made.teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)

    held_out = labelled(kind, 200, seed=2)
    if TASKS[kind].zero_one_loss:
        made.calibrate(held_out, kc.MaxDelegationRate(0.4))
    else:
        made.threshold = float(np.quantile(made.scores(held_out[0]), 0.4))
    x, y = labelled(kind, 100, seed=3)
    answer = made.predict(x, verbose=0)
    delegated = answer["delegated"]
    np.testing.assert_array_equal(delegated, answer["score"] < made.threshold)
    assert 0 < delegated.sum() < 100
    student, teacher = (
        losses_by_hand(kind, x, y, model)
        for model in (made.student, made.teacher)
    )
    found = made.evaluate(x, y, verbose=0, return_dict=True)
    expected = {
        "student_accuracy": 1 - student.mean(),
        "teacher_accuracy": 1 - teacher.mean(),
        "cascade_accuracy": 1 - np.where(delegated, teacher, student).mean(),
        "delegation_rate": delegated.mean(),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5)

    name = TASKS[kind].answer_name
    theirs = made.teacher.predict(x, verbose=0)
    if name == "probabilities":
        softmax = kind == "pixels"
        theirs = (
            scipy.special.softmax(theirs, axis=-1)
            if softmax
            else scipy.special.expit(theirs)
        )
    assert answer[name].shape == theirs.shape
    np.testing.assert_allclose(
        answer[name][delegated], theirs[delegated], atol=1e-5
    )

    made.save(tmp_path / "cascade.keras")
    again = keras.models.load_model(tmp_path / "cascade.keras")
    assert again.task == TASKS[kind]
    assert again.threshold == made.threshold
    for key, values in again.predict(x, verbose=0).items():
        np.testing.assert_allclose(values, answer[key], atol=1e-6)
    again.fit(*labelled(kind, 32, seed=4), verbose=0)


@pytest.mark.parametrize("kind", ["multilabel", "regression", "pixels"])
def test_a_cascade_teaches_a_cascade_of_the_same_task(kind):
    inner = cascade(kind)
    inner.calibrate(labelled(kind, 100, seed=2), kc.MaxDelegationRate(0.5))
    _, student = models(kind)
    outer = kc.Cascade(inner, student, task=TASKS[kind])
    outer.compile()
    outer.fit(*labelled(kind, 64, seed=1), verbose=0)
    x, y = labelled(kind, 50, seed=3)
    outer.threshold = 1e9  # all to the inner cascade
    answer, theirs = (one.predict(x, verbose=0) for one in (outer, inner))
    name = TASKS[kind].answer_name
    np.testing.assert_allclose(answer[name], theirs[name], atol=1e-5)
    results = outer.judge((x, y))
    quality = TASKS[kind].quality(y, theirs[name])
    np.testing.assert_array_equal(
        results.teacher_correct, keras.ops.convert_to_numpy(quality) > 0.5
    )


@pytest.mark.parametrize("activation", ["sigmoid", "layer"])
def test_sigmoids_are_read_before_the_activation(activation):
    heads = []
    for units in (16, 3):
        ends = [keras.layers.Dense(3, activation="sigmoid")]
        if activation == "layer":
            ends = [keras.layers.Dense(3), keras.layers.Activation("sigmoid")]
        hidden = keras.layers.Dense(units, activation="tanh")
        heads.append(keras.Sequential([keras.Input((6,)), hidden, *ends]))
    teacher, student = heads
    made = kc.Cascade(teacher, student, task="multilabel")
    made.compile(keras.optimizers.SGD(0.5))
    x, y = labelled("multilabel", 32)
    # A cascade of logits with the same weights does the same.
    twins = models("multilabel")
    for twin, model in zip(twins, heads, strict=True):
        twin.set_weights(model.get_weights())
    other = kc.Cascade(*twins, task="multilabel")
    other.compile(keras.optimizers.SGD(0.5))
    losses = [
        one.fit(x, y, shuffle=False, verbose=0).history["loss"]
        for one in (made, other)
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)
    # The user's own model was trained, and still ends in its sigmoid.
    for mine, twin in zip(
        student.get_weights(), twins[1].get_weights(), strict=True
    ):
        np.testing.assert_allclose(mine, twin, atol=1e-6)
    alone = scipy.special.expit(twins[1].predict(x, verbose=0))
    np.testing.assert_allclose(student.predict(x, verbose=0), alone, atol=1e-6)


def test_the_labels_alone_are_the_weight_1():
    kind = "regression"
    teacher, student = models(kind)
    first = student.get_weights()
    x, y = labelled(kind, 64)
    found = []
    for policy in (
        kc.distillation.StandardDistillation(student_loss_weight=1.0),
        kc.distillation.StandardDistillation(oracle=True),
        kc.tasks.TaskDistillation(TASKS[kind], student_loss_weight=1.0),
    ):
        student.set_weights(first)
        made = kc.Cascade(teacher, student, policy, task=TASKS[kind])
        made.compile(keras.optimizers.SGD(0.1))
        made.fit(x, y, shuffle=False, verbose=0)
        found.append(student.get_weights())
    for weights in zip(*found, strict=True):
        np.testing.assert_allclose(weights[1], weights[0])
        np.testing.assert_allclose(weights[2], weights[0])


def test_weights_of_examples():
    kind = "multilabel"
    made = cascade(kind)
    x, y = labelled(kind, 60)
    weight = np.linspace(0.0, 2.0, 60)
    found = made.evaluate(
        x, y, sample_weight=weight, verbose=0, return_dict=True
    )
    wrong = losses_by_hand(kind, x, y, made.student)
    np.testing.assert_allclose(
        found["student_accuracy"],
        np.average(1 - wrong, weights=weight),
        rtol=1e-5,
    )


@pytest.mark.parametrize("task", ["binary", kc.tasks.Binary()])
def test_two_classes(task, tmp_path):
    teacher, student = (
        keras.Sequential(
            [keras.Input((6,)), keras.layers.Dense(1, activation="sigmoid")]
        )
        for _ in range(2)
    )
    made = kc.Cascade(teacher, student, "margin", task=task)
    made.compile()
    x, y = labelled("multilabel", 64)
    made.fit(x, y[:, 0], verbose=0)
    assert made.predict(x, verbose=0)["probabilities"].shape == (64, 2)
    made.save(tmp_path / "binary.keras")
    again = keras.models.load_model(tmp_path / "binary.keras")
    assert again.task == kc.tasks.Binary()
    results = made.judge((x, y[:, 0]))
    assert results.loss_name is None  # as of classes
    np.testing.assert_array_equal(results.labels, y[:, 0])


@pytest.mark.parametrize("kind", ["multilabel", "regression", "pixels"])
def test_students_in_half_precision_have_scores_in_float32(kind):
    precise = cascade(kind)
    keras.config.set_dtype_policy("mixed_float16")
    try:
        teacher, student = models(kind)
    finally:
        keras.config.set_dtype_policy("float32")
    made = kc.Cascade(teacher, student, task=TASKS[kind])
    made.compile()
    x, y = labelled(kind, 64)
    for model, other in (
        (teacher, precise.teacher),
        (student, precise.student),
    ):
        model.set_weights(other.get_weights())
    found, expected = (one.predict(x, verbose=0) for one in (made, precise))
    name = TASKS[kind].answer_name
    assert found["score"].dtype == found[name].dtype == np.float32
    np.testing.assert_allclose(found["score"], expected["score"], atol=0.05)
    history = made.fit(x, y, verbose=0).history
    assert np.isfinite(history["loss"]).all()
