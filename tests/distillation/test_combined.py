"""A policy plus Keras's losses, against NumPy."""

import keras
import numpy as np
import pytest
import scipy.special

import keras_cascade as kc
from keras_cascade import distillation
from keras_cascade.distillation import CombinedDistillation
from tests.helpers.gradients import gradient


def logits(seed, rows=20, classes=4):
    return np.random.default_rng(seed).normal(size=(rows, classes))


def test_with_losses_of_labels_against_numpy():
    labels = np.arange(20) % 4
    teacher, student = logits(0), logits(1)
    policy = CombinedDistillation(
        {"class_name": "standard", "config": {"temperature": 2.0}},
        [
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            keras.losses.CategoricalCrossentropy(
                from_logits=True, label_smoothing=0.2
            ),
        ],
        weights=[0.5, 2.0],
    )
    found = policy.example_loss(labels, teacher, student)
    log_student = scipy.special.log_softmax(student, axis=1)
    one_hot = np.eye(4)[labels]
    rows = (
        scipy.special.softmax(teacher / 2, axis=1)
        + 0.5 * one_hot
        + 2.0 * (0.8 * one_hot + 0.2 / 4)
    )
    np.testing.assert_allclose(
        found, -(rows * log_student).sum(axis=1), rtol=1e-5
    )


def test_gradient_against_finite_differences():
    labels, teacher, student = np.arange(6) % 4, logits(0, 6), logits(1, 6)
    policy = CombinedDistillation(
        "standard",
        [keras.losses.SparseCategoricalCrossentropy(from_logits=True)],
        weights=[0.5],
    )

    def in_numpy(outputs):
        rows = scipy.special.softmax(teacher, axis=1) + 0.5 * np.eye(4)[labels]
        return -(rows * scipy.special.log_softmax(outputs, axis=1)).sum()

    found = gradient(
        lambda outputs: keras.ops.sum(
            policy.example_loss(labels, teacher, outputs)
        ),
        student,
    )
    step = 1e-6
    for index in np.ndindex(student.shape):
        change = np.zeros_like(student)
        change[index] = step
        expected = in_numpy(student + change) - in_numpy(student - change)
        assert found[index] == pytest.approx(expected / (2 * step), abs=1e-4)


def test_with_keras_distillation_of_logits_against_numpy():
    teacher, student = logits(0), logits(1)
    policy = CombinedDistillation(
        "gatekeeper",
        [
            keras.distillation.LogitsDistillation(
                temperature=2.0, loss=keras.losses.KLDivergence()
            )
        ],
    )
    plain = distillation.Gatekeeper()
    labels = np.arange(20) % 4
    found = np.asarray(policy.example_loss(labels, teacher, student))
    found = found - np.asarray(plain.example_loss(labels, teacher, student))
    p, q = (scipy.special.softmax(z / 2, axis=1) for z in (teacher, student))
    expected = 4 * (p * np.log(p / q)).sum(axis=1).mean()
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_features_are_compared_in_the_one_forward_pass(blobs):
    def model(units):
        inputs = keras.Input((6,))
        x = keras.layers.Dense(8, name="inner")(inputs)
        x = keras.layers.Dense(units, activation="relu")(x)
        return keras.Model(inputs, keras.layers.Dense(4)(x))

    teacher, student = model(16), model(2)
    policy = CombinedDistillation(
        "standard",
        [
            keras.distillation.FeatureDistillation(
                loss=keras.losses.MeanSquaredError(),
                teacher_layer_name="inner",
                student_layer_name="inner",
            )
        ],
        weights=[3.0],
    )
    x, y = blobs(32)
    found = {}
    for name, used in (("both", policy), ("plain", "standard")):
        cascade = kc.Cascade(teacher, student, used)
        cascade.compile()
        found[name] = cascade.evaluate(x, y, verbose=0, return_dict=True)
    inner = [
        keras.ops.convert_to_numpy(m.get_layer("inner")(x))
        for m in (teacher, student)
    ]
    expected = 3.0 * ((inner[0] - inner[1]) ** 2).mean()
    assert found["both"]["loss"] - found["plain"]["loss"] == pytest.approx(
        expected, rel=1e-3
    )
    cascade = kc.Cascade(teacher, student, policy)
    cascade.compile(optimizer=keras.optimizers.Adam(1e-2))
    history = cascade.fit(x, y, epochs=5, verbose=0).history["loss"]
    assert history[-1] < history[0]


def test_serialization():
    policy = CombinedDistillation(
        "margin",
        [
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            keras.distillation.FeatureDistillation(
                loss="mse",
                teacher_layer_name="a",
                student_layer_name="b",
            ),
        ],
        [1.0, 0.5],
    )
    again = distillation.get(keras.saving.serialize_keras_object(policy))
    assert isinstance(again.policy, distillation.MarginDistillation)
    assert again.weights == [1.0, 0.5]
    assert again.teacher_layers == ("a",)
    assert again.gate_defaults() == {"margin": 0.4}
    assert again.selective


@pytest.mark.parametrize(
    ("losses", "weights", "message"),
    [
        (["mse"], None, "Received: 'mse'"),
        (
            [keras.losses.SparseCategoricalCrossentropy()],
            None,
            "from_logits=True",
        ),
        ([keras.distillation.LogitsDistillation()], None, "raw logits"),
        ([], [1.0], "one weight a loss"),
    ],
)
def test_bad_losses(losses, weights, message):
    with pytest.raises(ValueError, match=message):
        CombinedDistillation("standard", losses, weights)
