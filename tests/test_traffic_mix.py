"""A traffic mix turns the data's frequencies into the deployment's."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_cascade as kc


@given(
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=50),
    frequencies=st.lists(st.floats(0.01, 10), min_size=4, max_size=4),
)
@settings(max_examples=200, deadline=None)
def test_weighted_frequencies_are_the_traffics(labels, frequencies):
    present = np.isin(np.arange(4), labels)
    wanted = np.where(present, frequencies, 0.0)
    weights = kc.TrafficMix(wanted).weights(labels)
    found = np.bincount(labels, weights=weights, minlength=4) / len(labels)
    np.testing.assert_allclose(found, wanted / wanted.sum(), rtol=1e-9)
    assert weights.mean() == pytest.approx(1.0)


def test_a_weight_an_example():
    mix = kc.TrafficMix(example_weights=[1.0, 3.0, 0.0, 4.0])
    np.testing.assert_array_equal(mix.weights([0, 0, 1, 1]), [0.5, 1.5, 0, 2])
    with pytest.raises(ValueError, match="the 4 examples"):
        mix.weights([0, 1])
    with pytest.raises(ValueError, match="use `weights`"):
        mix.class_weights([0, 0, 1, 1])
    for kwargs in ({}, {"frequencies": [1], "example_weights": [1]}):
        with pytest.raises(ValueError, match="either `frequencies` or"):
            kc.TrafficMix(**kwargs)


def test_a_class_without_traffic_weighs_nothing():
    mix = kc.TrafficMix({0: 1.0})
    np.testing.assert_array_equal(mix.weights([0, 1, 2, 0]), [2, 0, 0, 2])


@pytest.mark.parametrize(
    "frequencies", [{}, [], {0: -1}, {0: 0}, [[1]], [np.nan]]
)
def test_bad_frequencies(frequencies):
    with pytest.raises(ValueError, match="frequency >= 0"):
        kc.TrafficMix(frequencies)


def test_traffic_without_examples():
    with pytest.raises(ValueError, match=r"none of the classes \[1\]"):
        kc.TrafficMix([0.5, 0.5]).weights([0, 0])
    with pytest.raises(ValueError, match="at least one label"):
        kc.TrafficMix([0.5, 0.5]).weights([])


def test_traffic_in_training_is_a_sample_weight(dense_model, blobs):
    x, y = blobs(64)
    mix = kc.TrafficMix({0: 0.7, 1: 0.1, 2: 0.1, 3: 0.1})
    own = np.random.default_rng(0).random(64)
    teacher, student = dense_model(16), dense_model(3)
    first = student.get_weights()
    found = []
    for kwargs in (
        {"traffic": mix, "sample_weight": own},
        {"sample_weight": mix.weights(y, own)},
    ):
        student.set_weights(first)
        cascade = kc.Cascade(teacher, student)
        cascade.compile(optimizer=keras.optimizers.SGD(0.1))
        cascade.fit(x, y, shuffle=False, verbose=0, **kwargs)
        found.append(student.get_weights())
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_own_weights_count_within_a_class():
    # Classes come as the mix says; in class 1 the second comes three times
    # as often as the first.
    mix = kc.TrafficMix({0: 0.5, 1: 0.5})
    weights = mix.weights([0, 0, 1, 1], [1.0, 1.0, 2.0, 6.0])
    np.testing.assert_allclose(weights, [1.0, 1.0, 0.5, 1.5])


@pytest.mark.parametrize(
    "frequencies", [{-1: 0.5, 0: 0.5}, {0.7: 1.0}, {"cat": 1.0}]
)
def test_classes_are_whole_numbers(frequencies):
    with pytest.raises(ValueError, match="integers >= 0"):
        kc.TrafficMix(frequencies)


def test_traffic_needs_labels_at_hand(cascade, blobs):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(blobs(32)).batch(8)
    with pytest.raises(ValueError, match="`class_weight`"):
        cascade.fit(data, traffic=kc.TrafficMix([1, 1, 1, 1]))


def test_fit_weights_validation_as_well(dense_model, blobs):
    """As `evaluate` of the same data with the same traffic."""
    cascade = kc.Cascade(dense_model(16), dense_model(4))
    cascade.compile("adam")
    mix = kc.TrafficMix([0.7, 0.1, 0.1, 0.1])
    x, y = blobs(200, seed=3)
    own = np.linspace(0.5, 2.0, len(y))
    history = cascade.fit(
        *blobs(200, seed=2),
        validation_data=(x, y, own),
        traffic=mix,
        verbose=0,
    ).history
    weights = mix.weights(y, own)
    correct = cascade.judge((x, y)).student_correct
    expected = np.average(correct, weights=weights)
    assert history["val_student_accuracy"][-1] == pytest.approx(expected)
    assert expected != pytest.approx(correct.mean())


@pytest.mark.parametrize("kind", ["batches", "of examples"])
def test_validation_that_cannot_be_weighted(kind, dense_model, blobs):
    cascade = kc.Cascade(dense_model(16), dense_model(4))
    cascade.compile("adam")
    mix = kc.TrafficMix([0.7, 0.1, 0.1, 0.1])
    validation = blobs(64, seed=3)
    if kind == "batches":
        validation = iter([validation])
    else:
        mix = kc.TrafficMix(example_weights=np.ones(200))
    with pytest.raises(ValueError, match="without `traffic`"):
        cascade.fit(
            *blobs(200, seed=2),
            validation_data=iter(validation)
            if kind == "batches"
            else validation,
            traffic=mix,
            verbose=0,
        )
