"""Temperature scaling against conditions that define the optimum."""

import keras
import numpy as np
import pytest
import scipy.optimize
import scipy.special

from keras_cascade.gates import (
    EnergyGate,
    EntropyGate,
    MarginGate,
    MaxProbabilityGate,
)
from tests.helpers.gate_gauntlet import margin, scores, some_logits

GATES = [MarginGate, MaxProbabilityGate, EntropyGate, EnergyGate]


def drawn(rows, temperature, classes=4, seed=0):
    """Logits, and labels drawn from softmax(logits / temperature)."""
    rng = np.random.default_rng(seed)
    logits = some_logits(rows, classes, seed)
    shares = scipy.special.softmax(logits.astype(float) / temperature, axis=1)
    draws = rng.random((rows, 1))
    labels = (shares.cumsum(axis=1) < draws).sum(axis=1).clip(max=classes - 1)
    return logits, labels


def stationary_temperature(logits, labels, weight=None):
    """Temperature at which the likelihood's slope is zero, by root finding.

    d/dβ of Σ w (β z_label − ln Σ_k e^(β z_k)) is Σ w (z_label − Σ_k p_k z_k).
    """
    logits = logits.astype(float)
    right = logits[np.arange(len(logits)), labels]

    def slope(beta):
        shares = scipy.special.softmax(beta * logits, axis=1)
        return np.average(right - (shares * logits).sum(axis=1), weights=weight)

    return 1 / scipy.optimize.brentq(slope, 1e-4, 1e4, xtol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("make", GATES)
@pytest.mark.parametrize("true", [0.3, 1.0, 5.0])
def test_the_temperature_is_where_the_slope_is_zero(make, true):
    logits, labels = drawn(300, true)
    gate = make()
    found = gate.fit_temperature(logits, labels)
    assert found == gate.temperature
    assert found == pytest.approx(
        stationary_temperature(logits, labels), rel=1e-5
    )


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_logits_of_any_size(scale):
    # Scaling the logits scales the temperature, and nothing else.
    logits, labels = drawn(300, 2.0)
    one = MarginGate().fit_temperature(logits, labels)
    other = MarginGate().fit_temperature(scale * logits, labels)
    assert other == pytest.approx(scale * one, rel=1e-4)


def brute_force_temperature(logits, labels):
    """Best of a fine grid of temperatures from 1e-3 to 1e11."""
    logits = logits.astype(float)
    right = logits[np.arange(len(logits)), labels]

    def loss(temperature):
        total = scipy.special.logsumexp(logits / temperature, axis=1)
        return (total - right / temperature).mean()

    coarse = np.geomspace(1e-3, 1e11, 600)
    best = coarse[np.argmin([loss(t) for t in coarse])]
    fine = best * np.linspace(0.94, 1.06, 2001)
    return fine[np.argmin([loss(t) for t in fine])]


MASKS = [-1e4, -1e9, float(np.finfo("float32").min)]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("seed", range(3))
def test_masked_classes_leave_the_temperature(mask, seed):
    logits, labels = drawn(400, 2.0, seed=seed)
    masked = np.concatenate([logits, np.full((400, 6), mask)], axis=1)
    masked = masked.astype("float32")
    found = MarginGate().fit_temperature(masked, labels)
    assert found == pytest.approx(
        MarginGate().fit_temperature(logits, labels), rel=1e-6
    )
    assert found == pytest.approx(
        brute_force_temperature(masked, labels), rel=2e-4
    )


def test_a_mask_of_its_own_for_each_row():
    logits, labels = drawn(400, 2.0, classes=8)
    masked = np.where(
        np.arange(8) == (labels[:, None] + 1) % 8, np.float32(-1e9), logits
    )
    found = MarginGate().fit_temperature(masked, labels)
    assert found == pytest.approx(
        brute_force_temperature(masked, labels), rel=2e-4
    )


@pytest.mark.parametrize("size", [1e2, 1e5, 1e30])
def test_one_outlier_leaves_the_temperature(size):
    # Its softmax is 1 at any temperature in question: as if it were absent.
    logits, labels = drawn(2000, 2.0, classes=10)
    logits[7, labels[7]] = size
    found = MarginGate().fit_temperature(logits, labels)
    rest = np.arange(2000) != 7
    expected = stationary_temperature(logits[rest], labels[rest])
    assert found == pytest.approx(expected, rel=1e-5)
    if size < 1e30:
        assert found == pytest.approx(
            brute_force_temperature(logits, labels), rel=2e-4
        )


def test_an_outlier_that_is_wrong_is_named():
    # 1e5 / 2,000 outweighs the others' mean gain of a few units.
    logits, labels = drawn(2000, 2.0, classes=10)
    logits[7, (labels[7] + 1) % 10] = 1e5
    with pytest.raises(ValueError, match="Example 7 alone is wrong by 9"):
        MarginGate().fit_temperature(logits, labels)
    # A smaller one does what it does to the likelihood.
    logits[7, (labels[7] + 1) % 10] = 1e3
    found = MarginGate().fit_temperature(logits, labels)
    assert found == pytest.approx(
        brute_force_temperature(logits, labels), rel=2e-4
    )


@pytest.mark.parametrize("mask", [-1e9, float(np.finfo("float32").min)])
def test_chance_among_the_classes_that_are_not_masked(mask):
    logits, _ = drawn(400, 1.0)
    wrong = logits.argmin(axis=1)
    masked = np.concatenate([logits, np.full((400, 2), mask)], axis=1)
    with pytest.raises(ValueError, match="no higher than the others"):
        MarginGate().fit_temperature(masked.astype("float32"), wrong)


@pytest.mark.parametrize("true", [0.5, 3.0])
def test_a_known_temperature_is_recovered(true):
    logits, labels = drawn(20_000, true, seed=5)
    found = MarginGate().fit_temperature(logits, labels)
    # Asymptotic standard error of 1 / T: 1 / sqrt(n · mean variance of z
    # under p), the Fisher information of the exponential family.
    shares = scipy.special.softmax(logits.astype(float) / true, axis=1)
    mean = (shares * logits).sum(axis=1, keepdims=True)
    variance = (shares * (logits - mean) ** 2).sum(axis=1).mean()
    assert abs(1 / found - 1 / true) < 4 / np.sqrt(len(logits) * variance)


def test_weights_count_as_repetitions():
    logits, labels = drawn(60, 2.0)
    times = np.random.default_rng(1).integers(0, 4, 60)
    weighted = MarginGate().fit_temperature(logits, labels, times[:, None])
    repeated = MarginGate().fit_temperature(
        logits.repeat(times, axis=0), labels.repeat(times)
    )
    assert weighted == pytest.approx(repeated, rel=1e-6)
    assert weighted == pytest.approx(
        stationary_temperature(logits, labels, times), rel=1e-5
    )


def test_a_new_temperature_needs_no_retracing():
    gate = MarginGate()
    model = keras.Sequential([keras.Input((5,)), gate])
    logits = some_logits()
    model.predict(logits, verbose=0)
    gate.temperature = 4.0
    np.testing.assert_allclose(
        model.predict(logits, verbose=0), margin(logits, 4.0), atol=1e-6
    )
    assert gate.trainable_weights == []


@pytest.mark.parametrize("make", GATES)
def test_a_tiny_temperature_does_not_overflow(make):
    gate = make(temperature=np.finfo("float32").tiny)
    assert np.isfinite(scores(gate, some_logits())).all()


# Bad input.


@pytest.mark.parametrize(
    "value", [0, -1.0, float("nan"), float("inf"), 1e-60, 1e60, "hot", None]
)
def test_a_temperature_is_a_number_above_zero(value):
    with pytest.raises(ValueError, match="number > 0"):
        MarginGate(temperature=value)
    gate = MarginGate()
    with pytest.raises(ValueError, match="number > 0"):
        gate.temperature = value
    assert gate.temperature == 1.0


LOGITS, LABELS = drawn(100, 1.0)
OPPOSITE = LOGITS.argmin(axis=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((scipy.special.softmax(LOGITS, 1), LABELS), "Received probabilities"),
        ((np.where(LOGITS > 4, np.nan, LOGITS), LABELS), "NaN or infinity"),
        ((LOGITS, LABELS + 1), "labels from 0 to 3.*from 1 to 4"),
        ((LOGITS, LABELS - 1), "labels from 0 to 3"),
        ((LOGITS, LABELS + 0.5), "Expected integer labels"),
        ((LOGITS, np.where(LABELS == 1, np.nan, 1)), "Expected integer labels"),
        ((LOGITS, np.eye(4)[LABELS]), r"one value for each of 100.*\(100, 4\)"),
        ((LOGITS, LABELS[:50]), "one value for each of 100"),
        ((LOGITS, np.zeros(100)), "at least two classes.*class 0 only"),
        ((LOGITS[:19], LABELS[:19]), "at least 20 .*Received: 19"),
        ((LOGITS[:, 0], LABELS), r"shape \(100,\)"),
        ((LOGITS, LOGITS.argmax(axis=1)), "right on every one"),
        ((LOGITS, OPPOSITE), "no higher than the others"),
        ((LOGITS, LABELS, np.full(100, -1.0)), "finite numbers >= 0"),
        ((LOGITS, LABELS, np.eye(100)[0]), "weight above 0. Received: 1"),
        ((LOGITS, LABELS, np.full(100, np.nan)), "finite numbers >= 0"),
    ],
)
def test_bad_examples_leave_the_temperature(arguments, message):
    gate = MarginGate(temperature=3.0)
    with pytest.raises(ValueError, match=message):
        gate.fit_temperature(*arguments)
    assert gate.temperature == 3.0
