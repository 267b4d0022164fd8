"""Students of many kinds: trained, calibrated, exported, the same answers."""

import keras
import numpy as np
import pytest
import scipy.special

import keras_cascade as kc
from keras_cascade.runtime import EdgeCascade

L = keras.layers
FEATURES, CLASSES = 6, 3


class Penalty(L.Layer):
    """Adds a loss of its own."""

    def call(self, x):
        self.add_loss(0.1 * keras.ops.mean(x**2))
        return x


def rows(count, seed):
    rng = np.random.default_rng(seed)
    x = rng.random((count, FEATURES)).astype("float32")
    return x, rng.integers(0, CLASSES, count)


def dense(*first, **kwargs):
    inputs = keras.Input((FEATURES,), **kwargs)
    return keras.Sequential([inputs, *first, L.Dense(CLASSES)])


def legacy(folder):
    """A model in Keras's earlier format."""
    dense(L.Dense(8)).save(folder / "old.h5")
    return keras.models.load_model(folder / "old.h5")


def low_rank(_):
    model = dense(L.Dense(8))
    model.layers[0].enable_lora(2)
    return model


def normalized(_):
    layer = L.Normalization()
    layer.adapt(rows(96, 1)[0])
    return dense(layer)


def frozen(_):
    first = L.Dense(8)
    first.trainable = False
    return dense(first)


STUDENTS = {
    "add_loss": lambda _: dense(L.Dense(8), Penalty()),
    "regularizer": lambda _: dense(L.Dense(8, kernel_regularizer="l2")),
    "Lambda": lambda _: dense(L.Lambda(lambda t: t * 2)),
    "LoRA": low_rank,
    "frozen layer": frozen,
    "legacy .h5": legacy,
    "Normalization": normalized,
    "fixed batch": lambda _: dense(batch_size=8),
}


def compiled(teacher, student):
    cascade = kc.Cascade(teacher, student)
    cascade.compile(keras.optimizers.Adam(0.01))
    return cascade


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
@pytest.mark.parametrize("kind", STUDENTS)
def test_the_device_answers_as_keras(kind, tmp_path):
    student = STUDENTS[kind](tmp_path)
    kept = [w.numpy() for w in student.non_trainable_variables]
    cascade = compiled(dense(L.Dense(8, "relu")), student)
    cascade.fit(*rows(96, 1), batch_size=8, verbose=0)
    if kind == "frozen layer":
        for before, after in zip(
            kept, student.non_trainable_variables, strict=True
        ):
            np.testing.assert_array_equal(before, after)
    x, y = rows(96, 2)
    cascade.calibrate((x, y), kc.MaxDelegationRate(0.5, tolerance=1.0))
    cascade.export(tmp_path / "bundle")
    with EdgeCascade.load(tmp_path / "bundle", "local") as edge:
        answers = edge.predict(x)
    expected = cascade.predict(x, verbose=0)
    np.testing.assert_allclose(
        answers.probabilities, expected["probabilities"], atol=1e-5
    )
    assert ((answers.source == "cloud") == expected["delegated"]).all()


def test_bytes_as_inputs_of_an_int8_student(tmp_path):
    def model(units):
        return keras.Sequential(
            [
                keras.Input((6, 6, 3), dtype="uint8"),
                L.Rescaling(1 / 255),
                L.Conv2D(units, 3, activation="relu"),
                L.GlobalAveragePooling2D(),
                L.Dense(CLASSES),
            ]
        )

    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (96, 6, 6, 3)).astype("uint8")
    y = rng.integers(0, CLASSES, 96)
    cascade = compiled(model(8), model(4))
    cascade.calibrate((x, y), kc.MaxDelegationRate(0.5, tolerance=1.0))
    bundle = cascade.export(tmp_path / "bundle", quantization="int8")
    assert bundle.inputs[0]["dtype"] == "uint8"
    with EdgeCascade.load(bundle.path, "local") as edge:
        found = edge.predict_alone(x).probabilities
    logits = cascade.student.predict(x, verbose=0)
    expected = scipy.special.softmax(logits, axis=-1)
    # A step of int8 is 1/256 of a range.
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_a_thousand_classes(tmp_path):
    classes = 1000

    def model(units):
        return keras.Sequential(
            [keras.Input((FEATURES,)), L.Dense(units), L.Dense(classes)]
        )

    x, _ = rows(64, 3)
    y = np.arange(64) * 15
    cascade = compiled(model(8), model(4))
    cascade.calibrate((x, y), kc.MaxDelegationRate(0.5, tolerance=1.0))
    cascade.export(tmp_path / "bundle")
    with EdgeCascade.load(tmp_path / "bundle", "local") as edge:
        found = edge.predict(x).probabilities
    expected = cascade.predict(x, verbose=0)["probabilities"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
