"""Learned gate: its score, its fit and its errors on bad input."""

import keras
import numpy as np
import pytest
import scipy.special
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPClassifier

from keras_cascade import gates
from keras_cascade.evaluation.example_results import ExampleResults
from keras_cascade.gates import LearnedGate, MarginGate
from keras_cascade.gates.learned_gate_head import fit_head
from tests.helpers.gate_gauntlet import (
    gain_examples,
    head_inputs,
    head_output,
    scores,
    some_logits,
)


def results(logits, student, teacher, **kwargs):
    return ExampleResults(
        np.zeros(len(logits)), student, teacher, student_outputs=logits,
        **kwargs,
    )  # fmt: skip


def auroc_of_helping(gate, logits, student, teacher, *features):
    return roc_auc_score(teacher & ~student, -scores(gate, logits, *features))


def test_it_sees_a_half_plane_that_the_margin_cannot():
    gate = LearnedGate().fit(gain_examples(1000, classes=3, seed=1))
    fresh = gain_examples(4000, classes=3, seed=2)
    # Which of two classes is ahead changes nothing in the sorted logits, so
    # that the margin is no better than a coin.
    assert auroc_of_helping(MarginGate(), *fresh) == pytest.approx(
        0.5, abs=0.05
    )
    assert auroc_of_helping(gate, *fresh) > 0.85
    # P(student right) - P(teacher right) is 0.95 - 0.9 on one side and
    # 0.1 - 0.9 on the other: half way between, the score tells them apart.
    above = scores(gate, fresh[0]) > (0.05 - 0.8) / 2
    known = fresh[0][:, 0] > fresh[0][:, 1]
    assert (above == known).mean() > 0.9


def test_scores_are_probabilities_of_being_right():
    logits, _, _ = gain_examples(3000, seed=3)
    rng = np.random.default_rng(0)
    # No matter the input the student is right 7 times in 10, the teacher 9.
    student, teacher = rng.random(3000) < 0.7, rng.random(3000) < 0.9
    found = scores(LearnedGate(l2=1000).fit((logits, student, teacher)), logits)
    assert found.mean() == pytest.approx(-0.2, abs=0.03)
    assert found.std() < 0.05


def test_features_add_what_the_logits_lack():
    logits, _, _ = gain_examples(1000, seed=4)
    inner = np.random.default_rng(7).normal(size=(1000, 2, 3)).astype("float32")
    student = inner[:, 1, 2] > 0
    examples = results(
        logits, student, np.ones(1000, bool), features={"inner": inner}
    )
    gate = LearnedGate(student_layers=["inner"]).fit(examples)
    found = gate(logits, features={"inner": inner, "another": logits})
    assert roc_auc_score(student, keras.ops.convert_to_numpy(found)) > 0.95
    blind = LearnedGate().fit(examples)
    assert roc_auc_score(student, scores(blind, logits)) < 0.75
    # Another place in the dictionary or a saved config change nothing.
    again = gates.get(keras.saving.serialize_keras_object(gate))
    again.set_weights(gate.get_weights())
    np.testing.assert_array_equal(
        again(logits, features={"another": logits, "inner": inner}), found
    )


def test_the_head_is_that_of_scikit_learn():
    logits, student, teacher = gain_examples(200, seed=5)
    inputs = head_inputs(logits)
    found = fit_head(inputs, student, teacher, None, 8, 0.5, seed=3)
    mean, deviation = inputs.mean(axis=0), inputs.std(axis=0)
    reference = MLPClassifier(
        (8,), "tanh", solver="lbfgs", alpha=0.5, random_state=3, max_iter=500
    ).fit((inputs - mean) / deviation, np.stack([student, teacher], axis=1))
    np.testing.assert_allclose(
        head_output(inputs, found),
        reference.predict_proba((inputs - mean) / deviation),
        atol=1e-5,
    )


def test_a_teacher_that_is_always_right():
    logits, student, _ = gain_examples(500, seed=6)
    always = np.ones(500, bool)
    gate = LearnedGate().fit((logits, student, always))
    right = (scores(gate, logits) + (500 + 1) / (500 + 2)).clip(0, 1)
    # What is left is the student's own chance, fitted: its mean is the rate.
    assert right.mean() == pytest.approx(student.mean(), abs=0.02)
    never = LearnedGate().fit((logits, ~always, student))
    assert (scores(never, logits) < 0.01).all()


def test_weights_move_the_head():
    logits, student, teacher = gain_examples(400, seed=8)
    weight = np.where(student, 1.0, 0.0)
    weight[np.flatnonzero(~student)[:5]] = 1.0
    gate = LearnedGate().fit(
        results(logits, student, teacher, sample_weight=weight)
    )
    counted = weight > 0
    other = LearnedGate().fit(
        (logits[counted], student[counted], teacher[counted])
    )
    np.testing.assert_allclose(
        scores(gate, logits), scores(other, logits), atol=1e-4
    )


@pytest.mark.parametrize(
    ("classes", "inputs"), [(2, 6), (256, 266), (1000, 10)]
)
def test_the_size_of_the_head(classes, inputs):
    # min(5, classes) probabilities and logarithms, and all logarithms up to
    # 256 classes.
    gate = LearnedGate(hidden_units=3)
    logits, student, teacher = gain_examples(60, classes, seed=9)
    gate.fit((logits, student, teacher))
    shapes = {w.name: tuple(w.shape) for w in gate.weights}
    assert shapes["hidden_kernel"] == (inputs, 3)
    assert np.isfinite(scores(gate, logits)).all()
    assert gate.trainable_weights == []


def test_the_same_seed_gives_the_same_head():
    examples = gain_examples(100)
    one, same, other = (
        scores(LearnedGate(seed=seed).fit(examples), examples[0])
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_a_saturated_student():
    # Every largest probability is 1 in float32.
    logits, student, teacher = gain_examples(200)
    gate = LearnedGate().fit((100 * logits, student, teacher))
    assert np.isfinite(scores(gate, 100 * logits)).all()


def test_fitting_needs_no_retracing():
    logits, *correct = gain_examples(100)
    gate = LearnedGate()
    model = keras.Sequential([keras.Input((5,)), gate])
    before = model.predict(logits, verbose=0)
    gate.fit((logits, *correct))
    after = model.predict(logits, verbose=0)
    np.testing.assert_allclose(after, scores(gate, logits), atol=1e-6)
    assert np.abs(after - before).max() > 0.1


def test_ready_once_fitted():
    gate = LearnedGate()
    for _ in range(2):
        assert not gate.fitted
        with pytest.raises(ValueError, match=r"cascade\.fit_gate\(data\)"):
            gate.check_ready()
        gate(some_logits())
    gate.fit(gain_examples(50))
    assert gate.fitted
    gate.check_ready()
    MarginGate().check_ready()


# Bad input.

LOGITS, STUDENT, TEACHER = gain_examples(100)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((LOGITS, STUDENT), "three arrays. Received: 2"),
        (LOGITS, "tuple of arrays.*Received: ndarray"),
        (
            ExampleResults(LOGITS[:, 0], STUDENT, TEACHER),
            "ExampleResults without outputs",
        ),
        ((scipy.special.softmax(LOGITS, 1), STUDENT, TEACHER), "probabilities"),
        ((np.where(LOGITS > 4, np.nan, LOGITS), STUDENT, TEACHER), "NaN"),
        ((LOGITS[:19], STUDENT[:19], TEACHER[:19]), "at least 20"),
        ((LOGITS, STUDENT[:50], TEACHER), "student_correct to hold .* 100"),
        ((LOGITS, STUDENT, TEACHER * 2), "teacher_correct to hold booleans"),
        ((LOGITS, STUDENT, np.full(100, np.nan)), "teacher_correct"),
        ((LOGITS, STUDENT > 2, TEACHER < 2), "always wrong.*always right"),
        ((LOGITS[:, :4], STUDENT, TEACHER), "head has 15 inputs.*give 12"),
    ],
)
def test_bad_examples_leave_the_head(data, message):
    gate = LearnedGate().fit(gain_examples(50, seed=1))
    before = gate.get_weights()
    with pytest.raises(ValueError, match=message):
        gate.fit(data)
    for old, new in zip(before, gate.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (None, r"Received no features of \['inner'\]"),
        ({"other": LOGITS}, r"Received no features of \['inner'\]"),
        ({"inner": np.full((100, 3), np.nan)}, "300 values NaN"),
        ({"inner": LOGITS[:50]}, "features of 100 examples"),
    ],
)
def test_bad_features(features, message):
    gate = LearnedGate(student_layers=["inner"])
    with pytest.raises(ValueError, match=message):
        gate.fit(results(LOGITS, STUDENT, TEACHER, features=features))
    if features is None or "inner" not in features:
        with pytest.raises(ValueError, match=message):
            gate(LOGITS, features=features)


def test_features_of_no_fixed_size():
    inputs = keras.Input((None, 3), name="inner")
    with pytest.raises(ValueError, match=r"one size.*\(None, None, 3\)"):
        LearnedGate(["inner"])(keras.Input((5,)), {"inner": inputs})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"student_layers": "inner"}, r"Pass \['inner'\]"),
        ({"hidden_units": 0}, "integer >= 1"),
        ({"hidden_units": 2.5}, "integer >= 1"),
        ({"l2": -1.0}, "finite number >= 0"),
        ({"l2": float("nan")}, "finite number >= 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        LearnedGate(**arguments)
