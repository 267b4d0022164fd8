"""Losses against numbers derived by hand and against NumPy."""

import json

import keras
import numpy as np
import pytest
import scipy.special

from keras_cascade import distillation
from keras_cascade.distillation import (
    AbstainDistillation,
    CascadeAwareDistillation,
    ClassSpecificDistillation,
    CombinedDistillation,
    Gatekeeper,
    LabelSmoothing,
    MarginDistillation,
    StandardDistillation,
)
from tests.helpers.gradients import gradient

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


def test_abstain_by_hand():
    # Classes 0 and 2 of softmax ∝ [4, 2, 2]: [2/3, 1/3], nothing on abstain.
    policy = AbstainDistillation([0, 2])
    teacher = [[LN(4), LN(2), LN(2)]] * 2
    np.testing.assert_allclose(
        targets(policy, [2, 1], teacher),
        [[2 / 3, 1 / 3, 0], [0, 0, 1]],
        rtol=1e-6,
    )
    assert policy.student_outputs(3) == 3
    assert policy.student_head().units == 3
    # Against a uniform student, H of the first row is ln 3.
    found = loss(policy, [2, 1], teacher, [[0.0, 0, 0]] * 2)
    np.testing.assert_allclose(found, [LN(3), LN(3)], rtol=1e-6)


def test_an_oracle_puts_the_label_in_the_teachers_place():
    teacher = [[9.0, 0.0, 0.0]] * 2
    labels = [2, 1]
    one_hot = [[0, 0, 1], [0, 1, 0]]
    np.testing.assert_array_equal(
        targets(StandardDistillation(3.0, oracle=True), labels, teacher),
        one_hot,
    )
    np.testing.assert_allclose(
        targets(
            ClassSpecificDistillation([2], 3.0, 0.3, oracle=True),
            labels,
            teacher,
        ),
        [[0, 0, 1], [0.1, 0.8, 0.1]],
        rtol=1e-6,
    )
    # An oracle's margin is 1: everything is selected below it.
    margin = MarginDistillation(0.99, oracle=True)
    np.testing.assert_array_equal(
        targets(margin, labels, [[0.0, 0, 0]] * 2), one_hot
    )
    np.testing.assert_array_equal(
        targets(AbstainDistillation([0, 2], oracle=True), labels, teacher),
        [[0, 1, 0], [0, 0, 1]],
    )


def test_cascade_aware_leaves_out_what_both_get_wrong():
    policy = CascadeAwareDistillation()
    right, wrong = [1.0, 0.0], [0.0, 1.0]
    weight = policy.example_weight(
        np.zeros(4, int),
        keras.ops.array([right, right, wrong, wrong]),
        keras.ops.array([right, wrong, right, wrong]),
    )
    assert keras.ops.convert_to_numpy(weight).tolist() == [1, 1, 1, 0]
    with pytest.raises(ValueError, match="`student_logits`"):
        policy.selected([0], keras.ops.zeros((1, 2)))


def test_gatekeeper_by_hand():
    # Student [3/4, 1/4]. Right (label 0): α·(−ln 3/4). Wrong (label 1):
    # (1−α)·KL = (1−α)·(ln 2 + 3/4 ln 3/4 + 1/4 ln 1/4).
    student = [[LN(3), 0.0]] * 2
    found = loss(Gatekeeper(0.3), [0, 1], student, student)
    entropy = -(0.75 * LN(0.75) + 0.25 * LN(0.25))
    np.testing.assert_allclose(
        found, [-0.3 * LN(0.75), 0.7 * (LN(2) - entropy)], rtol=1e-6
    )


GAUNTLET = [
    StandardDistillation(2.0, 0.3),
    StandardDistillation(3.0, 0.3, scale_by_temperature_squared=True),
    StandardDistillation(2.0, 0.3, oracle=True),
    ClassSpecificDistillation([0, 2], 1.5, 0.4),
    ClassSpecificDistillation([0, 2], 1.5, 0.4, oracle=True),
    MarginDistillation(0.3, 2.0, 0.6),
    MarginDistillation(0.3, 2.0, 0.6, oracle=True),
    AbstainDistillation([1, 3, 4], 2.0),
    AbstainDistillation([1, 3, 4], oracle=True),
    CascadeAwareDistillation(2.0, 0.3),
    Gatekeeper(0.3),
    LabelSmoothing(0.6),
]
each_policy = pytest.mark.parametrize(
    "policy", GAUNTLET, ids=lambda p: type(p).__name__
)


def draw(policy, rows=40, seed=2):
    """Labels, teacher logits and student outputs over 5 classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 5, rows)
    teacher = 3 * rng.normal(size=(rows, 5))
    return (
        labels,
        teacher,
        3 * rng.normal(size=(rows, policy.student_outputs(5))),
    )


def numpy_loss(policy, labels, teacher, student):
    """The formulas of the paper, once more, in NumPy alone."""
    log_student = scipy.special.log_softmax(student, axis=1)
    if isinstance(policy, Gatekeeper):
        p = np.exp(log_student)
        right = student.argmax(axis=1) == labels
        entropy = -(p * log_student).sum(axis=1)
        return np.where(
            right,
            -policy.alpha * log_student[np.arange(len(labels)), labels],
            (1 - policy.alpha) * (np.log(student.shape[1]) - entropy),
        )
    one_hot = np.eye(5)[labels]
    if isinstance(policy, LabelSmoothing):
        rows = 0.4 * one_hot + 0.6 / 5
        return -(rows * log_student).sum(axis=1)
    taught = scipy.special.softmax(teacher / policy.temperature, axis=1)
    margin = np.sort(scipy.special.softmax(teacher, axis=1), axis=1)
    margin = margin[:, -1] - margin[:, -2]
    if policy.oracle:
        taught, margin = one_hot, np.ones(len(labels))
    if isinstance(policy, StandardDistillation):
        a = policy.student_loss_weight
        tau = policy.temperature
        scale = tau**2 if policy.scale_by_temperature_squared else 1
        rows = a * one_hot + (1 - a) * scale * taught
    elif isinstance(policy, AbstainDistillation):
        inside = policy.in_domain_classes
        part = taught[:, inside]
        chosen = np.isin(labels, inside)
        with np.errstate(invalid="ignore"):
            part = part / part.sum(axis=1, keepdims=True)
        rows = np.zeros(student.shape)
        rows[chosen, :-1] = part[chosen]
        rows[~chosen, -1] = 1
    else:
        alpha = policy.label_smoothing
        chosen = (
            np.isin(labels, policy.in_domain_classes)
            if isinstance(policy, ClassSpecificDistillation)
            else margin > policy.threshold
        )
        smoothed = (1 - alpha) * one_hot + alpha / 5
        rows = np.where(chosen[:, None], taught, smoothed)
    return -(rows * log_student).sum(axis=1)


def test_the_gauntlet_has_every_policy():
    alone = set(distillation.serialization.NAMES.values())
    alone.remove(CombinedDistillation)  # test_combined.py
    assert {type(p) for p in GAUNTLET} == alone


@pytest.mark.parametrize(
    "policy",
    [p for p in GAUNTLET if not isinstance(p, Gatekeeper)],  # has no targets
    ids=lambda p: type(p).__name__,
)
def test_target_rows_sum_to_one(policy):
    labels, teacher, _ = draw(policy)
    rows = targets(policy, labels, teacher)
    assert rows.shape == (40, policy.student_outputs(5))
    np.testing.assert_allclose(rows.sum(axis=1), 1.0, rtol=1e-6)
    assert rows.min() >= 0


@each_policy
def test_loss_against_numpy(policy):
    case = draw(policy)
    np.testing.assert_allclose(
        loss(policy, *case), numpy_loss(policy, *case), rtol=1e-4, atol=1e-6
    )


@each_policy
def test_gradient_against_finite_differences(policy):
    labels, teacher, student = draw(policy, rows=6, seed=3)
    student = student.astype("float64")

    def total(outputs):
        return keras.ops.sum(
            policy.example_loss(
                labels, keras.ops.convert_to_tensor(teacher), outputs
            )
        )

    found = gradient(total, student)
    step = 1e-6
    expected = np.empty_like(student)
    for index in np.ndindex(student.shape):
        up, down = student.copy(), student.copy()
        up[index] += step
        down[index] -= step
        expected[index] = (
            numpy_loss(policy, labels, teacher, up).sum()
            - numpy_loss(policy, labels, teacher, down).sum()
        ) / (2 * step)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@each_policy
def test_selected_is_one_boolean_an_example(policy):
    labels, teacher, student = draw(policy)
    found = policy.selected(
        labels,
        keras.ops.convert_to_tensor(teacher),
        keras.ops.convert_to_tensor(student),
    )
    assert keras.ops.convert_to_numpy(found).shape == (40,)
    assert keras.backend.standardize_dtype(found.dtype) == "bool"


@each_policy
def test_serialization(policy):
    name = {v: k for k, v in distillation.serialization.NAMES.items()}[
        type(policy)
    ]
    config = policy.get_config()
    full = distillation.serialize(policy)
    short = {"class_name": name, "config": config}
    for again in (
        distillation.deserialize(full),
        distillation.deserialize(json.loads(json.dumps(full))),
        distillation.get(full),
        distillation.get(short),
        eval(repr(policy), vars(distillation)),
    ):
        assert type(again) is type(policy)
        assert again.get_config() == config
    assert distillation.get(policy) is policy


@pytest.mark.parametrize("name", distillation.serialization.NAMES)
def test_get_by_name(name):
    cls = distillation.serialization.NAMES[name]
    if name in ("abstain", "class_specific", "combined"):
        with pytest.raises(ValueError, match="needs arguments"):
            distillation.get(name)
        return
    assert type(distillation.get(name)) is cls
    assert distillation.get(name).get_config() == cls().get_config()


def test_the_default_policy():
    policy = distillation.get(None)
    assert type(policy) is StandardDistillation
    assert policy.get_config() == StandardDistillation().get_config()


def test_a_policy_prints_the_arguments_that_are_not_defaults():
    assert repr(MarginDistillation(0.6)) == "MarginDistillation(threshold=0.6)"
    assert repr(StandardDistillation()) == "StandardDistillation()"
    assert (
        repr(AbstainDistillation([2, 0], oracle=True))
        == "AbstainDistillation([0, 2], oracle=True)"
    )


@each_policy
def test_half_precision_logits_give_float32_losses(policy):
    labels, teacher, student = draw(policy, rows=6)
    found = loss(
        policy, labels, teacher.astype("float16"), student.astype("float16")
    )
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
        (lambda: distillation.get("abstain"), "needs arguments"),
        (lambda: Gatekeeper(2.0), "`alpha`"),
        (lambda: AbstainDistillation([]), "at least one integer"),
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
