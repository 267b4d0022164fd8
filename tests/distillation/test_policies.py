"""Losses against numbers derived by hand and against NumPy."""

import keras
import numpy as np
import pytest
import scipy.special

from keras_cascade import distillation
from keras_cascade.distillation import (
    ClassSpecificDistillation,
    MarginDistillation,
    StandardDistillation,
)

# softmax([ln 3, 0]) = [3/4, 1/4]; softmax([ln 4, ln 2, ln 2]) = [1/2, 1/4, 1/4]
LN = np.log


def loss(policy, labels, teacher, student):
    value = policy.example_loss(
        np.array(labels), np.array(teacher), np.array(student)
    )
    return keras.ops.convert_to_numpy(value)


def targets(policy, labels, teacher):
    value = policy.targets(
        np.array(labels), keras.ops.convert_to_tensor(np.array(teacher))
    )
    return keras.ops.convert_to_numpy(value)


def test_standard_by_hand():
    # Target [3/4, 1/4] against softmax([0, 0]) = [1/2, 1/2]: H = ln 2.
    # Against softmax([ln 3, 0]): H = -(3/4 ln 3/4 + 1/4 ln 1/4).
    teacher = [[LN(3), 0.0], [LN(3), 0.0]]
    student = [[0.0, 0.0], [LN(3), 0.0]]
    expected = [LN(2), -(0.75 * LN(0.75) + 0.25 * LN(0.25))]
    found = loss(StandardDistillation(), [1, 1], teacher, student)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_temperature_softens_the_teacher_only():
    # τ = 2: softmax([ln 9, 0] / 2) = softmax([ln 3, 0]) = [3/4, 1/4], while
    # the student's softmax([ln 3, 0]) stays [3/4, 1/4].
    found = loss(
        StandardDistillation(temperature=2.0), [0], [[LN(9), 0.0]], [[LN(3), 0]]
    )
    np.testing.assert_allclose(
        found, [-(0.75 * LN(0.75) + 0.25 * LN(0.25))], rtol=1e-6
    )


def test_student_loss_weight_mixes_label_and_teacher():
    # a = 0.2: 0.2·[0, 1] + 0.8·[3/4, 1/4] = [0.6, 0.4].
    found = targets(
        StandardDistillation(student_loss_weight=0.2), [1], [[LN(3), 0.0]]
    )
    np.testing.assert_allclose(found, [[0.6, 0.4]], rtol=1e-6)


def test_temperature_squared_scales_the_teachers_part_only():
    # a·H(y) + (1−a)·τ²·H(p_T(τ)), with H = ln 2 for a uniform student.
    policy = StandardDistillation(2.0, 0.25, scale_by_temperature_squared=True)
    found = loss(policy, [1], [[LN(9), 0.0]], [[0.0, 0.0]])
    np.testing.assert_allclose(found, [(0.25 + 0.75 * 4) * LN(2)], rtol=1e-6)


def test_class_specific_by_hand():
    # Class 0 in-domain: row 0 learns p_T = [1/2, 1/4, 1/4]; row 1 learns
    # LS(0.6) of class 2: 0.4·[0, 0, 1] + 0.2 = [0.2, 0.2, 0.6].
    policy = ClassSpecificDistillation([0], label_smoothing=0.6)
    teacher = [[LN(4), LN(2), LN(2)]] * 2
    np.testing.assert_allclose(
        targets(policy, [0, 2], teacher),
        [[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]],
        rtol=1e-6,
    )


def test_class_specific_goes_by_the_label_not_by_the_teacher():
    # The teacher is sure of class 0, the label says 1: not selected.
    policy = ClassSpecificDistillation([0])
    found = policy.selected(np.array([1]), keras.ops.array([[9.0, 0.0]]))
    assert not bool(found[0])


def test_margin_by_hand():
    # Margins: 3/4 − 1/4 = 1/2 > 0.4, and 1/2 − 1/4 ... of two classes
    # softmax([ln 1.5, 0]) = [0.6, 0.4]: margin 0.2, not selected.
    policy = MarginDistillation(threshold=0.4, label_smoothing=0.4)
    teacher = [[LN(3), 0.0], [LN(1.5), 0.0]]
    np.testing.assert_allclose(
        targets(policy, [1, 1], teacher),
        [[0.75, 0.25], [0.2, 0.8]],
        rtol=1e-6,
    )


def test_margin_is_taken_at_temperature_one():
    # At τ = 100 the margin would vanish; at 1 it is 1/2.
    policy = MarginDistillation(threshold=0.4, temperature=100.0)
    found = policy.selected(np.array([0]), keras.ops.array([[LN(3), 0.0]]))
    assert bool(found[0])


def test_no_label_smoothing_gives_one_hot():
    policy = ClassSpecificDistillation([0], label_smoothing=0.0)
    np.testing.assert_array_equal(
        targets(policy, [2], [[5.0, 1.0, 2.0]]), [[0.0, 0.0, 1.0]]
    )


def test_exact_ties_stay_unselected_at_threshold_zero():
    policy = MarginDistillation(threshold=0.0)
    teacher = keras.ops.array([[1.0, 1.0, 0.0], [1.0, 1.1, 0.0]])
    found = keras.ops.convert_to_numpy(policy.selected([0, 0], teacher))
    assert found.tolist() == [False, True]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_all_classes_in_domain_is_standard_bit_for_bit(temperature):
    rng = np.random.default_rng(0)
    teacher = rng.normal(size=(64, 7)).astype("float32")
    student = rng.normal(size=(64, 7)).astype("float32")
    labels = rng.integers(0, 7, 64)
    specific = ClassSpecificDistillation(range(7), temperature, 0.4)
    standard = StandardDistillation(temperature)
    np.testing.assert_array_equal(
        loss(specific, labels, teacher, student),
        loss(standard, labels, teacher, student),
    )


GAUNTLET = [
    StandardDistillation(2.0, 0.3),
    StandardDistillation(3.0, 0.3, scale_by_temperature_squared=True),
    ClassSpecificDistillation([0, 2], 1.5, 0.4),
    MarginDistillation(0.3, 2.0, 0.6),
]
each_policy = pytest.mark.parametrize(
    "policy", GAUNTLET, ids=lambda p: type(p).__name__
)


def test_the_gauntlet_has_every_policy():
    assert {type(p) for p in GAUNTLET} == set(distillation.NAMES.values())


@each_policy
def test_target_rows_sum_to_one(policy):
    rng = np.random.default_rng(1)
    rows = targets(policy, rng.integers(0, 5, 40), rng.normal(size=(40, 5)))
    np.testing.assert_allclose(rows.sum(axis=1), 1.0, rtol=1e-6)
    assert rows.min() >= 0


@each_policy
def test_loss_against_numpy(policy):
    rng = np.random.default_rng(2)
    teacher, student = rng.normal(size=(2, 40, 5)) * 3
    labels = rng.integers(0, 5, 40)
    log_student = scipy.special.log_softmax(student, axis=1)
    label_rows = np.eye(5)[labels]
    teacher_rows = scipy.special.softmax(teacher / policy.temperature, axis=1)
    if isinstance(policy, StandardDistillation):
        a = policy.student_loss_weight
        scale = (
            policy.temperature**2 if policy.scale_by_temperature_squared else 1
        )
        rows = a * label_rows + (1 - a) * scale * teacher_rows
    else:
        ordered = np.sort(scipy.special.softmax(teacher, axis=1), axis=1)
        chosen = (
            np.isin(labels, policy.in_domain_classes)
            if isinstance(policy, ClassSpecificDistillation)
            else ordered[:, -1] - ordered[:, -2] > policy.threshold
        )
        assert 0 < chosen.sum() < 40
        alpha = policy.label_smoothing
        smoothed = (1 - alpha) * label_rows + alpha / 5
        rows = np.where(chosen[:, None], teacher_rows, smoothed)
    expected = -(rows * log_student).sum(axis=1)
    found = loss(policy, labels, teacher, student)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@each_policy
def test_gradient_against_finite_differences(policy):
    import tensorflow as tf

    rng = np.random.default_rng(3)
    teacher, student = rng.normal(size=(2, 6, 5))
    labels = rng.integers(0, 5, 6)
    variable = tf.Variable(student)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(
            policy.example_loss(labels, tf.constant(teacher), variable)
        )
    found = tape.gradient(total, variable).numpy()
    step = 1e-6
    expected = np.empty_like(student)
    for index in np.ndindex(student.shape):
        up, down = student.copy(), student.copy()
        up[index] += step
        down[index] -= step
        expected[index] = (
            loss(policy, labels, teacher, up).sum()
            - loss(policy, labels, teacher, down).sum()
        ) / (2 * step)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@each_policy
def test_serialization(policy):
    config = keras.saving.serialize_keras_object(policy)
    for identifier in (
        config,
        {"class_name": type(policy).__name__, "config": policy.get_config()},
        policy,
    ):
        if isinstance(identifier, dict) and identifier is not config:
            names = {v: k for k, v in distillation.NAMES.items()}
            identifier["class_name"] = names[type(policy)]
        again = distillation.get(identifier)
        assert type(again) is type(policy)
        assert again.get_config() == policy.get_config()


@each_policy
def test_half_precision_logits_give_float32_losses(policy):
    rng = np.random.default_rng(4)
    teacher, student = rng.normal(size=(2, 6, 5)).astype("float16")
    found = loss(policy, rng.integers(0, 5, 6), teacher, student)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StandardDistillation(temperature=0), "`temperature`"),
        (lambda: StandardDistillation(student_loss_weight=2), "in \\[0, 1\\]"),
        (lambda: MarginDistillation(threshold=-0.1), "`threshold`"),
        (lambda: ClassSpecificDistillation([]), "at least one integer"),
        (lambda: ClassSpecificDistillation([1, 1]), "no repeats"),
        (lambda: ClassSpecificDistillation([-1]), "at least one integer"),
        (lambda: distillation.get("class_specific"), "needs arguments"),
        (lambda: distillation.get("margni"), "Received: 'margni'"),
        (lambda: distillation.get(7), "Received: 7"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_class_subset_must_fit_the_models():
    policy = ClassSpecificDistillation([0, 9])
    with pytest.raises(ValueError, match="class 9, but the models have 3"):
        targets(policy, [0], [[1.0, 2.0, 3.0]])
