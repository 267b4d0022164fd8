"""Temperatures from grouped logits, against those from all logits."""

import hypothesis
import keras
import numpy as np
import pytest
import scipy.special
from hypothesis import strategies as st

import keras_cascade as kc
from keras_cascade.gates import LearnedGate, MarginGate
from keras_cascade.gates.grouped_logits import GROUPS, TOP, GroupedLogits

#: Relative error of a temperature from groups that is accepted.
TOLERANCE = 1e-3


def drawn(rows, classes, temperature, spread=2.0, seed=0):
    """Normal logits, and labels drawn from softmax(logits / temperature)."""
    rng = np.random.default_rng(seed)
    logits = (spread * rng.normal(size=(rows, classes))).astype("float32")
    # Gumbel's way to draw from a softmax.
    noise = rng.gumbel(size=(rows, classes))
    return logits, (logits / temperature + noise).argmax(axis=1)


@pytest.mark.parametrize("true", [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("classes", [257, 3_000, 21_843])
def test_the_temperature_is_that_of_all_logits(classes, true):
    logits, labels = drawn(100, classes, true)
    grouped = GroupedLogits.of(logits, labels)
    found = MarginGate().fit_temperature(grouped, labels)
    assert found == pytest.approx(
        MarginGate().fit_temperature(logits, labels), rel=TOLERANCE
    )


def test_heavy_tails_and_weights():
    rng = np.random.default_rng(3)
    logits = rng.standard_t(3, size=(300, 5_000)).astype("float32")
    noise = rng.gumbel(size=logits.shape)
    labels = (logits / 1.5 + noise).argmax(axis=1)
    weight = rng.integers(0, 4, 300)
    grouped = GroupedLogits.of(logits, labels)
    assert MarginGate().fit_temperature(grouped, labels, weight) == (
        pytest.approx(
            MarginGate().fit_temperature(logits, labels, weight), rel=TOLERANCE
        )
    )


@hypothesis.given(
    scale=st.floats(0.01, 3.0), width=st.floats(0.0, 4.0), seed=st.integers(0)
)
@hypothesis.settings(deadline=None, max_examples=30)
def test_mean_logits_of_known_spread(scale, width, seed):
    rng = np.random.default_rng(seed)
    logits = width * rng.normal(size=(4, 2_000)).astype("float32")
    z = logits.astype("float64") - logits.max(axis=1, keepdims=True)
    exact = (scipy.special.softmax(scale * z, axis=1) * z).sum(axis=1)
    found = GroupedLogits.of(logits, np.zeros(4, int)).mean_logits(scale)
    spread = z.std(axis=1).max()
    np.testing.assert_allclose(found, exact, atol=2e-3 * spread + 1e-6)


@pytest.mark.parametrize(
    ("mask", "share"),
    [(-1e4, 0.1), (-1e9, 0.5), (float(np.finfo("float32").min), 0.99)],
)
def test_masked_classes_leave_the_temperature(mask, share):
    logits, labels = drawn(200, 2_000, 2.0)
    masked = np.random.default_rng(1).random(logits.shape) < share
    masked[np.arange(200), labels] = False
    logits[masked] = mask
    grouped = GroupedLogits.of(logits, labels)
    assert MarginGate().fit_temperature(grouped, labels) == pytest.approx(
        MarginGate().fit_temperature(logits, labels), rel=TOLERANCE
    )


def test_groups_are_exact_where_logits_are_equal():
    # 40 logits of 0, 2,000 of -2 and 960 of -1e9: no group mixes any two
    # other than at the two steps, of which the first is inside one group.
    logits = np.repeat([0.0, -2.0, -1e9], [TOP, 2_008, 960])
    logits = np.tile(logits.astype("float32"), (3, 1))
    grouped = GroupedLogits.of(logits[:, ::-1], np.full(3, 1_000))
    expected = -2.0 * 2_008 * np.exp(-3.0) / (TOP + 2_008 * np.exp(-3.0))
    np.testing.assert_allclose(grouped.mean_logits(1.5), expected, rtol=1e-6)
    assert grouped.label_logits.tolist() == [-2.0] * 3
    assert grouped.gaps.tolist() == [-2.0] * 3
    assert grouped.split.tolist() == [TOP + 2_008] * 3


@pytest.mark.parametrize("classes", [TOP + GROUPS, 257, 1_000, 21_843])
def test_every_class_is_counted_once(classes):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(6, classes)).astype("float32")
    logits[3:, : classes // 3] = -1e9
    grouped = GroupedLogits.of(logits, np.zeros(6, int))
    counts = grouped._counts(grouped.split)
    assert (counts >= 0).all()
    np.testing.assert_array_equal(counts.sum(axis=1), classes)
    # The first moment is kept.
    z = logits.astype("float64") - logits.max(axis=1, keepdims=True)
    np.testing.assert_allclose(
        (counts * grouped.values).sum(axis=1), z.sum(axis=1), rtol=1e-5
    )


def test_rows_are_selected_and_joined():
    logits, labels = drawn(50, 400, 1.0)
    whole = GroupedLogits.of(logits, labels)
    parts = [
        GroupedLogits.of(logits[part], labels[part])
        for part in (slice(0, 7), slice(7, 50))
    ]
    joined = GroupedLogits.joined(parts)
    assert joined.shape == whole.shape == (50, 400)
    np.testing.assert_array_equal(joined.values, whole.values)
    odd = np.arange(50) % 2 == 1
    np.testing.assert_array_equal(whole[odd].values, whole.values[odd])


def test_a_cascade_keeps_groups():
    classes, rng = 300, np.random.default_rng(0)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(classes)])
    model.set_weights([3 * rng.normal(size=(8, classes)), np.zeros(classes)])
    cascade = kc.Cascade(model, keras.models.clone_model(model))
    cascade.student.set_weights(model.get_weights())
    x = rng.normal(size=(400, 8)).astype("float32")
    logits = model.predict(x, verbose=0)
    y = (logits / 3.0 + rng.gumbel(size=logits.shape)).argmax(axis=1)
    mix = kc.TrafficMix(example_weights=rng.integers(1, 4, 400))
    results = cascade.judge((x, y), traffic=mix, keep_outputs=True)
    assert isinstance(results.student_outputs, GroupedLogits)
    for traffic, weight in ((None, None), (mix, results.sample_weight)):
        cascade.fit_temperature((x, y), traffic=traffic)
        assert cascade.gate.temperature == pytest.approx(
            MarginGate().fit_temperature(logits, y, weight), rel=TOLERANCE
        )


# Bad input.


def test_groups_are_no_logits():
    logits, labels = drawn(30, 400, 1.0)
    grouped = GroupedLogits.of(logits, labels)
    right = np.arange(30) % 2 == 0
    with pytest.raises(ValueError, match="all logits of 400 classes"):
        LearnedGate().fit((grouped, right, ~right))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda z: np.where(z > 4, np.nan, z), "NaN or infinity"),
        (lambda z: scipy.special.softmax(z, axis=1), "Received probabilities"),
        (lambda z: z[:, :100], "at least 128 classes. Received: 100"),
    ],
)
def test_bad_logits(change, message):
    logits, _ = drawn(30, 400, 1.0)
    with pytest.raises(ValueError, match=message):
        GroupedLogits.of(change(logits), np.zeros(30, int))


def test_too_few_examples_and_labels_of_one_class():
    logits, labels = drawn(30, 400, 1.0)
    with pytest.raises(ValueError, match=r"at least 20 .*Received: 19"):
        MarginGate().fit_temperature(
            GroupedLogits.of(logits[:19], labels[:19]), labels[:19]
        )
    one = np.zeros(30, int)
    with pytest.raises(ValueError, match="class 0 only"):
        MarginGate().fit_temperature(GroupedLogits.of(logits, one), one)
