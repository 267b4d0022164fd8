"""Losses from the k largest teacher logits: those of the dense target."""

import keras
import numpy as np
import pytest
import scipy.special

from keras_cascade import distillation
from keras_cascade.distillation.distillation_policy import (
    DistillationPolicy,
    logits_for,
)
from keras_cascade.utils.numpy_top_k import (
    dense_logits,
    numpy_shares,
    top_k_arrays,
)
from keras_cascade.utils.tensor_ops import is_right, softmax_margin
from keras_cascade.utils.top_k_logits import TopKLogits, dense

CLASSES, TOP_K, ROWS = 300, 8, 24
INSIDE = list(range(0, CLASSES, 7))

POLICIES = {
    "standard": distillation.StandardDistillation(),
    "standard with labels": distillation.StandardDistillation(
        3.0, student_loss_weight=0.3
    ),
    "standard by tau squared": distillation.StandardDistillation(
        2.0, student_loss_weight=0.3, scale_by_temperature_squared=True
    ),
    "standard oracle": distillation.StandardDistillation(oracle=True),
    "margin": distillation.MarginDistillation(0.2, 0.5, label_smoothing=0.4),
    "margin oracle": distillation.MarginDistillation(0.2, oracle=True),
    "class specific": distillation.ClassSpecificDistillation(
        INSIDE, 4.0, label_smoothing=0.6
    ),
    "abstain": distillation.AbstainDistillation(INSIDE, 2.0),
    "abstain oracle": distillation.AbstainDistillation(INSIDE, oracle=True),
    "cascade aware": distillation.CascadeAwareDistillation(2.0),
    "gatekeeper": distillation.Gatekeeper(0.3),
    "label_smoothing": distillation.LabelSmoothing(0.6),
    "combined": distillation.CombinedDistillation(
        distillation.StandardDistillation(2.0),
        [
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            keras.distillation.LogitsDistillation(
                temperature=2.0, loss=keras.losses.KLDivergence()
            ),
        ],
        [0.5, 0.25],
    ),
}


@pytest.fixture(scope="module")
def examples():
    """Teacher logits, of which some rows are sure, labels and top-k arrays."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(ROWS, CLASSES)).astype("float32")
    logits[::2] *= 4.0  # a margin above and below any threshold
    labels = np.where(
        np.arange(ROWS) % 3, logits.argmax(1), rng.integers(0, CLASSES, ROWS)
    ).astype("int32")
    labels[1::4] = INSIDE[: len(labels[1::4])]
    return logits, labels, top_k_arrays(logits, TOP_K)


def tensors(arrays):
    return TopKLogits(
        *(keras.ops.convert_to_tensor(a) for a in arrays.values()), CLASSES
    )


def student_logits(policy, seed=1):
    outputs = policy.student_outputs(CLASSES)
    rng = np.random.default_rng(seed)
    return (3.0 * rng.normal(size=(ROWS, outputs)) + 40.0).astype("float32")


def gradient(function, x):
    """Gradient of a sum with respect to an array, on either backend."""
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(lambda z: function(z).sum())(x))
    import tensorflow as tf

    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(function(x))
    return tape.gradient(total, x).numpy()


@pytest.mark.parametrize("name", POLICIES)
def test_loss_and_gradient_are_those_of_the_dense_target(examples, name):
    policy = POLICIES[name]
    _, labels, arrays = examples
    student = student_logits(policy)
    densified = dense_logits(**arrays, size=CLASSES)
    found, expected = (
        keras.ops.convert_to_numpy(
            policy.example_loss(labels, teacher, student)
        )
        for teacher in (tensors(arrays), densified)
    )
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)
    slopes = [
        gradient(
            lambda z, t=teacher: policy.example_loss(labels, t, z), student
        )
        for teacher in (tensors(arrays), densified)
    ]
    np.testing.assert_allclose(slopes[0], slopes[1], atol=1e-6)
    assert np.abs(slopes[0]).max() > 0.01


@pytest.mark.parametrize("name", POLICIES)
def test_selection_and_weights_are_those_of_all_logits(examples, name):
    policy = POLICIES[name]
    logits, labels, arrays = examples
    student = student_logits(policy)
    for method in ("selected", "example_weight"):
        found, expected = (
            getattr(policy, method)(labels, teacher, student)
            for teacher in (tensors(arrays), logits)
        )
        assert (found is None) == (expected is None)
        if expected is not None:
            found, expected = map(keras.ops.convert_to_numpy, (found, expected))
            np.testing.assert_array_equal(found, expected)
    if policy.selective and not getattr(policy, "oracle", False):
        selected = policy.selected(labels, tensors(arrays), student)
        share = keras.ops.convert_to_numpy(selected).mean()
        assert 0.0 < share < 1.0


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 8.0])
def test_the_loss_at_a_temperature_is_that_of_numpy(examples, temperature):
    """In float64, term by term, from the definition of the tail."""
    _, labels, arrays = examples
    policy = distillation.StandardDistillation(temperature)
    student = student_logits(policy)
    expected = []
    for row in range(ROWS):
        level = arrays["rest"][row] - np.log(CLASSES - TOP_K)
        teacher = np.full(CLASSES, level, "float64")
        teacher[arrays["classes"][row]] = arrays["logits"][row]
        target = scipy.special.softmax(teacher / temperature)
        own = scipy.special.log_softmax(student[row].astype("float64"))
        expected.append(-(target * own).sum())
    found = policy.example_loss(labels, tensors(arrays), student)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(found), expected, rtol=1e-5
    )


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 8.0])
def test_the_even_tail_errs_to_the_side_that_is_stated(examples, temperature):
    logits, _, arrays = examples
    true = scipy.special.softmax(logits.astype("float64") / temperature, axis=1)
    kept = np.take_along_axis(true, arrays["classes"], axis=1)
    mass = 1.0 - kept.sum(axis=1)
    shares, other = tensors(arrays).shares(temperature)
    shares = keras.ops.convert_to_numpy(shares)
    other = keras.ops.convert_to_numpy(other)
    found = other * (CLASSES - TOP_K)
    np.testing.assert_allclose(shares.sum(axis=1) + found, 1.0, atol=1e-5)
    if temperature == 1.0:
        np.testing.assert_allclose(found, mass, atol=1e-6)
        np.testing.assert_allclose(shares, kept, atol=1e-6)
    elif temperature > 1.0:  # Jensen's inequality, strict: logits differ
        assert (found > mass).all()
    else:
        assert (found < mass).all()


def test_classes_margins_and_dense_logits(examples):
    logits, labels, arrays = examples
    top = tensors(arrays)
    assert top.shape == (ROWS, CLASSES)
    shares = np.sort(scipy.special.softmax(logits.astype("float64"), axis=1))
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(softmax_margin(top)),
        shares[:, -1] - shares[:, -2],
        atol=1e-6,
    )
    right = keras.ops.convert_to_numpy(is_right(top, labels))
    np.testing.assert_array_equal(right, logits.argmax(axis=1) == labels)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(dense(top)),
        dense_logits(**arrays, size=CLASSES),
        atol=1e-6,
    )
    np.testing.assert_allclose(
        numpy_shares(arrays["logits"], arrays["rest"]),
        np.take_along_axis(
            scipy.special.softmax(logits.astype("float64"), axis=1),
            arrays["classes"],
            axis=1,
        ),
        rtol=1e-5,
    )


def test_ties_are_broken_as_argmax_breaks_them():
    logits = np.array([[0.0, 5.0, 1.0, 5.0, 5.0, 1.0]], "float32")
    arrays = top_k_arrays(logits, 4)
    assert arrays["classes"].tolist() == [[1, 3, 4, 2]]
    np.testing.assert_allclose(arrays["rest"], [np.log(1 + np.e)], rtol=1e-6)


class OwnTargets(distillation.StandardDistillation):
    """A policy of a user, which knows dense logits only."""

    def targets(self, labels, teacher_logits):
        return keras.ops.softmax(-teacher_logits, axis=-1)


class OwnSelection(distillation.MarginDistillation):
    def selected(self, labels, teacher_logits, student_logits=None):
        return keras.ops.max(teacher_logits, axis=-1) > 0


class OwnConfig(distillation.MarginDistillation):
    def get_config(self):
        return {**super().get_config(), "note": "own"}


class OwnLoss(DistillationPolicy):
    takes_top_k = True

    def example_loss(self, labels, teacher_logits, student_logits):
        return teacher_logits.rest


@pytest.mark.parametrize(
    ("policy", "compact"),
    [
        (OwnTargets(), False),
        (OwnSelection(), False),
        (OwnConfig(), True),
        (OwnLoss(), True),
        *((policy, True) for policy in POLICIES.values()),
    ],
)
def test_a_policy_of_ones_own_gets_dense_logits(examples, policy, compact):
    top = tensors(examples[2])
    found = logits_for(policy, top)
    assert (found is top) == compact
    if not compact:
        assert tuple(found.shape) == (ROWS, CLASSES)
        labels, student = examples[1], student_logits(policy)
        policy.example_loss(labels, found, student)
