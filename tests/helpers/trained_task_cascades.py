"""Small cascades of tasks, with labelled data."""

import keras
import numpy as np

import keras_cascade as kc
from tests.helpers.pixel_task import Pixels

TASKS = {
    "multilabel": kc.tasks.MultiLabel("example"),
    "hamming": kc.tasks.MultiLabel(),
    "regression": kc.tasks.Regression(tolerance=0.7),
    "quantiles": kc.tasks.Regression(tolerance=0.7, spread="quantiles"),
    "pixels": Pixels(),
}


def labelled(kind, rows, seed=0):
    """Arrays `(x, y)` of a task."""
    rng = np.random.default_rng(seed)
    if kind == "pixels":
        x = rng.normal(size=(rows, 4, 4, 2)).astype("float32")
        return x, x.argmax(axis=-1).astype("uint8")
    x = rng.normal(size=(rows, 6)).astype("float32")
    noise = 0.3 * rng.normal(size=(rows, 3))
    y = x @ np.random.default_rng(9).normal(size=(6, 3)) + noise
    if kind in ("regression", "quantiles"):
        return x, y[:, :2].astype("float32")
    return x, (y > 0).astype("int32")


def models(kind, units=(16, 3)):
    """Teacher and student of a task, untrained."""
    return tuple(
        _model(kind, size, number == 1) for number, size in enumerate(units)
    )


def cascade(kind, task=None, **arguments):
    """Compiled cascade of a task, its teacher trained on labels."""
    teacher, student = models(kind)
    losses = {
        "pixels": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "regression": "mse",
        "quantiles": "mse",
    }
    own = keras.losses.BinaryCrossentropy(from_logits=True)
    teacher.compile(keras.optimizers.Adam(1e-2), losses.get(kind, own))
    teacher.fit(*labelled(kind, 256, seed=5), epochs=10, verbose=0)
    made = kc.Cascade(teacher, student, task=task or TASKS[kind], **arguments)
    made.compile(keras.optimizers.Adam(1e-2))
    return made


def _model(kind, units, is_student):
    layers = keras.layers
    if kind == "pixels":
        inputs = keras.Input((4, 4, 2))
        x = layers.Conv2D(units, 1, activation="tanh")(inputs)
        return keras.Model(inputs, layers.Conv2D(2, 1)(x))
    regression = kind in ("regression", "quantiles")
    outputs = (4 if is_student else 2) if regression else 3
    inputs = keras.Input((6,))
    x = layers.Dense(units, activation="tanh")(inputs)
    return keras.Model(inputs, layers.Dense(outputs)(x))
