"""Caches of the k largest logits in fit, judge, calibrate and fit_gate."""

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf

import keras_cascade as kc
from keras_cascade.evaluation.example_results import ExampleResults
from keras_cascade.gates.learned_gate_head import head_inputs
from keras_cascade.utils.numpy_top_k import dense_logits
from keras_cascade.utils.tensor_ops import is_right, softmax_margin

CLASSES, TOP_K, FEATURES = 300, 8, 6


def linear(classes=CLASSES, seed=0, scale=3.0):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [keras.Input((FEATURES,)), keras.layers.Dense(classes)]
    )
    kernel, bias = model.get_weights()
    model.set_weights([scale * kernel, bias])
    return model


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(160, FEATURES)).astype("float32")
    labels = linear().predict(x, verbose=0).argmax(axis=1).astype("int32")
    labels[::4] = rng.integers(0, CLASSES, len(labels[::4]))
    return x, labels


@pytest.fixture(scope="module")
def cache(data):
    return kc.cache_teacher_logits(
        data, linear(), dtype="float32", top_k=TOP_K, chunk_examples=50
    )


class DenseTeacher(keras.layers.Layer):
    """Looks up the logits of a cache, the remaining mass spread evenly."""

    def __init__(self, x, logits):
        super().__init__()
        self.x, self.logits = x, logits

    def call(self, inputs):
        distance = keras.ops.sum(
            keras.ops.abs(inputs[:, None] - self.x[None]), axis=-1
        )
        rows = keras.ops.argmin(distance, axis=-1)
        return keras.ops.take(self.logits, rows, axis=0)


@pytest.mark.parametrize("form", ["arrays", "weighted", "dataset"])
@pytest.mark.parametrize("policy", ["standard", "margin", "own"])
def test_training_is_that_of_the_densified_teacher(data, cache, form, policy):
    """The same weights after two epochs, and the same metrics."""
    if policy == "margin":
        policy = kc.distillation.MarginDistillation(
            float(np.median(cache.margins()))
        )
    if policy == "own":

        class Own(kc.distillation.StandardDistillation):
            def targets(self, labels, teacher_logits):
                return keras.ops.softmax(2.0 * teacher_logits, axis=-1)

        policy = Own()
    x, y = data
    densified = cache.logits(x)
    inputs = keras.Input((FEATURES,))
    teacher = keras.Model(inputs, DenseTeacher(x, densified)(inputs))
    weight = np.linspace(0.0, 2.0, len(x)).astype("float32")
    found = []
    for logits in (cache, None):
        student = linear(seed=1, scale=1.0)
        cascade = kc.Cascade(
            linear() if logits else teacher, student, distillation=policy
        )
        cascade.compile(keras.optimizers.SGD(0.1))
        arguments = (x, y)
        if form == "dataset":
            batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(32)
            arguments = (batches,)
        with_weights = {"sample_weight": weight} if form == "weighted" else {}
        history = cascade.fit(
            *arguments,
            epochs=2,
            shuffle=False,
            verbose=0,
            teacher_logits=logits,
            **with_weights,
        )
        found.append((student.get_weights(), history.history))
    for one, other in zip(found[0][0], found[1][0], strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)
    first = linear(seed=1, scale=1.0).get_weights()[0]
    assert np.abs(found[0][0][0] - first).max() > 1e-3
    assert "cascade_accuracy" in found[1][1]
    for name in found[1][1].keys() - {"amortized_cost"}:  # of its teacher
        values = found[1][1][name]
        np.testing.assert_allclose(found[0][1][name], values, rtol=1e-4)


def test_judging_and_margins_are_those_of_all_logits(data, cache):
    x, y = data
    cascade = kc.Cascade(linear(), linear(seed=1))
    results = cascade.judge((x, y), teacher_logits=cache)
    live = cascade.judge((x, y))
    assert np.array_equal(results.teacher_labels, live.teacher_labels)
    assert np.array_equal(results.teacher_correct, live.teacher_correct)
    np.testing.assert_allclose(
        results.teacher_confidence, live.teacher_confidence, atol=1e-5
    )
    assert results.classes == live.classes == CLASSES
    shares = np.sort(
        scipy.special.softmax(linear().predict(x, verbose=0), axis=1), axis=1
    )
    np.testing.assert_allclose(
        cache.margins(), shares[:, -1] - shares[:, -2], atol=1e-5
    )
    points = [
        cascade.calibrate(
            (x, y), kc.MaxDelegationRate(0.3), teacher_logits=logits
        )
        for logits in (cache, None)
    ]
    assert points[0] == points[1]


def test_no_column_grows_with_the_classes(data, cache):
    """What `judge` and `fit_gate` keep of an example."""
    x, y = data
    cascade = kc.Cascade(
        linear(), linear(seed=1), gate=kc.gates.LearnedGate(hidden_units=4)
    )
    results = cascade.judge((x, y), keep_outputs=True, teacher_logits=cache)
    assert results.student_outputs is None and results.features is None
    assert results.gate_inputs.shape == (len(x), 10)
    for name, values in vars(results).items():
        if isinstance(values, np.ndarray) and name != "gate_inputs":
            assert values.shape == (len(x),), name
    top = np.sort(
        scipy.special.softmax(
            linear(seed=1).predict(x, verbose=0).astype("float64"), axis=1
        ),
        axis=1,
    )[:, :-6:-1]
    np.testing.assert_allclose(
        results.gate_inputs,
        np.concatenate([top, np.maximum(np.log(top), -16.0)], axis=1),
        atol=1e-4,
    )


def test_a_gate_learns_from_its_inputs_as_from_the_logits(data, cache):
    x, y = data
    student = linear(seed=1)
    cascade = kc.Cascade(
        linear(), student, gate=kc.gates.LearnedGate(hidden_units=4)
    )
    gate = cascade.fit_gate((x, y), teacher_logits=cache)
    logits = keras.ops.convert_to_numpy(student(x))
    live = cascade.judge((x, y))
    from_logits = kc.gates.LearnedGate(hidden_units=4).fit(
        (logits, live.student_correct, live.teacher_correct)
    )
    scores = [
        keras.ops.convert_to_numpy(one(logits)) for one in (gate, from_logits)
    ]
    np.testing.assert_allclose(*scores, atol=5e-3)
    # And without a student before it, as of results from elsewhere.
    results = cascade.judge((x, y), keep_outputs=True, teacher_logits=cache)
    alone = kc.gates.LearnedGate(hidden_units=4).fit(results)
    assert alone.fitted
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(alone(logits)), scores[0], atol=1e-5
    )
    with pytest.raises(ValueError, match="10 inputs"):
        gate.fit((logits[:, :100], live.student_correct, live.teacher_correct))
    bad = np.full((len(x), 10), np.nan, "float32")
    with pytest.raises(ValueError, match="NaN or infinite"):
        gate.fit(
            ExampleResults(
                live.scores,
                live.student_correct,
                live.teacher_correct,
                gate_inputs=bad,
            )
        )


def test_stored_arrays_and_their_order(data, cache):
    x, _ = data
    logits = linear().predict(x, verbose=0).astype("float64")
    logits -= logits.max(axis=1, keepdims=True)
    arrays = cache.arrays(cache.rows(x[::-1]))
    order = np.argsort(-logits[::-1], axis=1)
    assert cache.top_k == TOP_K
    np.testing.assert_array_equal(arrays["classes"], order[:, :TOP_K])
    np.testing.assert_allclose(
        arrays["logits"],
        np.take_along_axis(logits[::-1], order[:, :TOP_K], axis=1),
        atol=1e-5,
    )
    others = np.take_along_axis(logits[::-1], order[:, TOP_K:], axis=1)
    np.testing.assert_allclose(
        arrays["rest"], scipy.special.logsumexp(others, axis=1), atol=1e-5
    )
    np.testing.assert_allclose(
        cache.take(cache.rows(x)),
        dense_logits(**cache.arrays(cache.rows(x)), size=CLASSES),
    )


def test_margin_and_accuracy_of_very_many_classes():
    """The forms without an array of shares, against float64."""
    rng = np.random.default_rng(0)
    logits = 3 * rng.normal(size=(40, 1500)).astype("float32")
    labels = logits.argmax(axis=1).astype("int32")
    logits[0, labels[0] - 7] = logits[0].max()  # a tie: the first one counts
    logits[1, labels[1] + 7] = logits[1].max()
    logits[2] = np.nan
    labels[3:9] += 1
    shares = np.sort(scipy.special.softmax(logits.astype("float64"), axis=1))
    expected = shares[:, -1] - shares[:, -2]
    found = keras.ops.convert_to_numpy(softmax_margin(logits))
    np.testing.assert_allclose(found[3:], expected[3:], atol=1e-6)
    assert found[:2].tolist() == [0.0, 0.0] and np.isnan(found[2])
    right = keras.ops.convert_to_numpy(is_right(logits, labels))
    expected = logits.argmax(axis=1) == labels
    assert not expected[0] and expected[1]
    np.testing.assert_array_equal(right[3:], expected[3:])
    np.testing.assert_array_equal(right[:2], expected[:2])


@pytest.mark.parametrize("gate", ["margin", "learned"])
def test_21843_classes(gate):
    """Trained, judged, gated and calibrated; the teacher runs once."""
    classes, rows = 21_843, 64
    x = np.random.default_rng(0).normal(size=(rows, FEATURES))
    x = x.astype("float32")
    teacher, student = linear(classes), linear(classes, seed=1)
    cache = kc.cache_teacher_logits(x, teacher, top_k=32)
    y, _ = cache.answers(x)
    expected = keras.ops.convert_to_numpy(teacher(x))
    assert np.array_equal(y, expected.argmax(axis=1))
    cascade = kc.Cascade(teacher, student, gate=gate)
    cascade.compile(keras.optimizers.Adam(0.05))
    history = cascade.fit(
        x, y, epochs=12, verbose=0, teacher_logits=cache
    ).history
    assert history["loss"][-1] < history["loss"][0]
    # The gate scores every eighth row, and there are two batches of 32.
    assert set(np.asarray(history["delegation_rate"]) * 8 % 1) == {0.0}
    y[:16] = (y[:16] + 1) % classes  # the teacher is wrong on these
    data = {"teacher_logits": cache, "allow_training_data": True}
    if gate == "learned":
        cascade.fit_gate((x, y), **data)
    point = cascade.calibrate((x, y), kc.MaxDelegationRate(0.5), **data)
    assert point.delegation_rate <= 0.5
    inputs = keras.ops.convert_to_numpy(
        head_inputs(keras.ops.convert_to_tensor(expected), {})
    )
    assert inputs.shape == (rows, 10)
