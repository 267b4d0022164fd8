"""Recurrent students ship as loops, at any length that they take."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_cascade as kc
from keras_cascade.export import ExportError
from keras_cascade.export.recurrent_layers import as_loops
from keras_cascade.export.tflite_file import operations

HALF = kc.MaxDelegationRate(0.5, tolerance=1.0)
STEPS = 9


def bidirectional(**kwargs):
    return layers.Bidirectional(layers.GRU(4), **kwargs)


#: Layers between a sequence of 4 numbers per step and `Dense(3)`.
LAYERS = {
    "LSTM": lambda: [layers.LSTM(4)],
    "GRU": lambda: [layers.GRU(4)],
    "GRU, reset before": lambda: [layers.GRU(4, reset_after=False)],
    "SimpleRNN": lambda: [layers.SimpleRNN(4)],
    "backwards": lambda: [layers.LSTM(4, go_backwards=True)],
    "stacked": lambda: [
        layers.LSTM(5, return_sequences=True),
        layers.GRU(3, return_sequences=True),
        layers.GlobalMaxPooling1D(),
    ],
    "bidirectional": lambda: [
        layers.Bidirectional(layers.LSTM(4, return_sequences=True)),
        bidirectional(merge_mode="sum"),
    ],
    "masked": lambda: [
        layers.Masking(),
        layers.LSTM(4, return_sequences=True),
        bidirectional(),
    ],
    "zero output": lambda: [
        layers.Masking(),
        layers.RNN(
            layers.GRUCell(4), return_sequences=True, zero_output_for_mask=True
        ),
        layers.LSTM(3),
    ],
    "cells": lambda: [layers.RNN([layers.LSTMCell(4), layers.GRUCell(3)])],
    "dropout": lambda: [layers.LSTM(4, dropout=0.3, recurrent_dropout=0.3)],
}


def student(name, steps):
    keras.utils.set_random_seed(2)
    return keras.Sequential(
        [
            keras.Input((steps, 4)),
            *LAYERS[name](),
            layers.Dense(3, kernel_initializer="orthogonal"),
            layers.Rescaling(5.0),  # answers depend on what comes in
        ]
    )


def teacher(steps):
    return keras.Sequential(
        [
            keras.Input((steps, 4)),
            layers.GlobalAveragePooling1D(),
            layers.Dense(3),
        ]
    )


def sequences(rows, steps, seed=0):
    """Sequences of which some end early, in zeros."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, steps, 4)).astype("float32")
    ends = rng.integers(1, steps + 1, rows)
    x[np.arange(steps) >= ends[:, None]] = 0.0
    return x, rng.integers(0, 3, rows)


def shipped(name, steps, path, **options):
    """`(Keras student, bundle)`."""
    model = student(name, steps)
    cascade = kc.Cascade(teacher(steps), model)
    cascade.calibrate(sequences(80, STEPS), HALF)
    return model, cascade.export(path, **options)


def check(model, bundle, x, atol=1e-5):
    expected = ops.convert_to_numpy(ops.softmax(model(x, training=False)))
    assert np.ptp(expected[:, 0]) > 0.05
    run = kc.runtime.StudentInterpreter(bundle.batch_student_file).run
    for rows in (1, 3, len(x)):
        found = run({"input": x[:rows]})["probabilities"]
        np.testing.assert_allclose(found, expected[:rows], atol=atol)


@pytest.mark.parametrize("name", LAYERS)
def test_a_fixed_length(name, tmp_path):
    """`unroll=False`, as every layer is made."""
    model, bundle = shipped(name, STEPS, tmp_path / "b")
    assert bundle.inputs[0]["shape"] == [None, STEPS, 4]
    check(model, bundle, sequences(30, STEPS, seed=5)[0])
    built_in, others = operations(bundle.student_file.read_bytes())
    assert not others
    assert not [one for one in built_in if "VAR" in one]


@pytest.mark.parametrize("name", ["GRU", "masked", "bidirectional", "stacked"])
def test_a_free_length(name, tmp_path):
    model, bundle = shipped(name, None, tmp_path / "b")
    assert bundle.inputs[0]["shape"] == [None, None, 4]
    for steps in (STEPS, 1, 30, 4, STEPS):
        check(model, bundle, sequences(10, steps, seed=steps)[0])


def test_the_device_answers_as_keras_at_any_length(tmp_path):
    """A text classifier, as Keras's examples have it, end to end."""

    def classifier(layer):
        inputs = keras.Input((None,), dtype="int32")
        x = layers.Embedding(50, 8, mask_zero=True)(inputs)
        return keras.Model(inputs, layers.Dense(3)(layer(x)))

    def ids(rows, steps):
        rng = np.random.default_rng(steps)
        x = rng.integers(1, 50, (rows, steps))
        x[np.arange(steps) >= rng.integers(1, steps + 1, (rows, 1))] = 0
        return x

    cascade = kc.Cascade(
        classifier(layers.GlobalAveragePooling1D()),
        classifier(layers.Bidirectional(layers.LSTM(6))),
    )
    x = ids(90, 12)
    cascade.calibrate((x, np.arange(90) % 3), HALF)
    bundle = cascade.export(tmp_path / "b", onnx=True)
    edge = kc.runtime.EdgeCascade.load(bundle.path, "local")
    for steps in (12, 5, 40):
        found = edge.predict(ids(20, steps))
        expected = cascade.predict(ids(20, steps), verbose=0)
        np.testing.assert_allclose(
            found.probabilities, expected["probabilities"], atol=1e-5
        )
        np.testing.assert_array_equal(
            found.source == "cloud", expected["delegated"]
        )


@pytest.mark.parametrize("steps", [STEPS, None])
def test_int8(steps, tmp_path):
    model, bundle = shipped(
        "masked", steps, tmp_path / "b", quantization="int8"
    )
    x, _ = sequences(60, STEPS, seed=6)
    expected = ops.convert_to_numpy(ops.softmax(model(x)))
    run = kc.runtime.StudentInterpreter(bundle.batch_student_file).run
    found = run({"input": x})["probabilities"]
    assert np.abs(found - expected).sum(axis=1).mean() / 2 < 0.1


def test_convolutions_over_time(tmp_path):
    """States of more than one axis."""
    inputs = keras.Input((5, 6, 6, 1))
    x = layers.ConvLSTM2D(2, 3, return_sequences=True)(inputs)
    x = layers.Flatten()(layers.ConvLSTM2D(2, 3)(x))
    model = keras.Model(inputs, layers.Dense(3)(x))
    flat = keras.Sequential(
        [keras.Input((5, 6, 6, 1)), layers.Flatten(), layers.Dense(3)]
    )
    rng = np.random.default_rng(0)
    x = 9.0 * rng.normal(size=(70, 5, 6, 6, 1)).astype("float32")
    cascade = kc.Cascade(flat, model)
    cascade.calibrate((x, np.arange(70) % 3), HALF)
    check(model, cascade.export(tmp_path / "b"), x)


def test_layers_are_what_they_were():
    model = student("dropout", STEPS)
    (layer,) = (one for one in model.layers if isinstance(one, layers.LSTM))
    x, _ = sequences(4, STEPS)
    before = model(x)
    state = (layer.use_cudnn, layer.cell.dropout, layer.cell.recurrent_dropout)
    with pytest.raises(KeyError), as_loops(model):
        np.testing.assert_allclose(model(x), before, atol=1e-6)
        assert layer.cell.dropout == 0.0
        raise KeyError("a conversion that fails")
    assert "inner_loop" not in vars(layer)
    assert state == (
        layer.use_cudnn, layer.cell.dropout, layer.cell.recurrent_dropout
    )  # fmt: skip


def test_a_state_from_call_to_call_is_refused():
    inputs = keras.Input(batch_shape=(16, STEPS, 4))
    model = keras.Model(inputs, layers.LSTM(4, stateful=True)(inputs))
    with (
        pytest.raises(ExportError, match=r"stateful=True.*set_weights"),
        as_loops(model),
    ):
        raise AssertionError("not reached")
