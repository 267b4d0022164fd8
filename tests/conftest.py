"""What several test folders share."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
import pytest

import keras_cascade as kc
from tests.helpers import task_cascades


@pytest.fixture(autouse=True)
def seeded():
    """Every test starts from the same random state."""
    keras.utils.set_random_seed(0)


@pytest.fixture
def blobs():
    """A function that draws labelled points around `classes` centres."""

    def draw(rows, classes=4, features=6, seed=0):
        rng = np.random.default_rng(seed)
        centres = np.random.default_rng(99).normal(size=(classes, features))
        y = rng.integers(0, classes, rows)
        x = centres[y] + 0.7 * rng.normal(size=(rows, features))
        return x.astype("float32"), y.astype("int32")

    return draw


@pytest.fixture
def dense_model():
    """A function that makes a small functional model with logits."""

    def make(units, classes=4, features=6, batch_norm=False, name=None):
        inputs = keras.Input((features,))
        x = keras.layers.Dense(units, activation="relu")(inputs)
        if batch_norm:
            x = keras.layers.BatchNormalization()(x)
            x = keras.layers.Dropout(0.2)(x)
        return keras.Model(inputs, keras.layers.Dense(classes)(x), name=name)

    return make


@pytest.fixture
def cascade(dense_model, blobs):
    """A compiled cascade with a trained teacher and an untrained student."""
    teacher = dense_model(32, batch_norm=True)
    teacher.compile(
        optimizer=keras.optimizers.Adam(1e-2),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    teacher.fit(*blobs(512, seed=1), epochs=5, verbose=0)
    made = kc.Cascade(teacher, dense_model(3))
    made.compile(optimizer=keras.optimizers.Adam(1e-2))
    return made


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory):
    """A bundle of a small trained cascade on 4 classes, 6 features."""
    keras.utils.set_random_seed(3)
    rng = np.random.default_rng(3)
    centres = np.random.default_rng(99).normal(size=(4, 6))
    y = rng.integers(0, 4, 900).astype("int32")
    x = (centres[y] + 0.7 * rng.normal(size=(900, 6))).astype("float32")

    def model(units):
        layers = keras.layers
        return keras.Sequential(
            [
                keras.Input((6,)),
                layers.Dense(units, activation="tanh"),
                layers.Dense(4),
            ]
        )

    teacher = model(64)
    teacher.compile(
        optimizer=keras.optimizers.Adam(1e-2),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    teacher.fit(x[:400], y[:400], epochs=5, verbose=0)
    made = kc.Cascade(teacher, model(3))
    made.compile(optimizer=keras.optimizers.Adam(1e-2))
    made.fit(x[:400], y[:400], epochs=5, verbose=0)
    made.calibrate((x[400:], y[400:]), kc.MaxDelegationRate(0.3))
    path = tmp_path_factory.mktemp("bundles") / "blobs"
    made.export(path, class_names=["a", "b", "c", "d"])
    return path


@pytest.fixture(scope="session")
def task_bundle(tmp_path_factory):
    """A function of a task's name: `(Cascade, Bundle, calibration data)`."""
    made = {}

    def of(name):
        if name not in made:
            cascade, data = task_cascades.calibrated(name)
            path = tmp_path_factory.mktemp("tasks") / name
            names = [f"{name} {one}" for one in range(cascade.classes)]
            bundle = cascade.export(path, onnx=True, class_names=names)
            made[name] = cascade, bundle, data
        return made[name]

    return of
