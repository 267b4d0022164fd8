"""Small bundles, calibrated on a split that the command line finds again."""

import keras
import numpy as np

import keras_cascade as kc
from keras_cascade.cli.data_options import DataOptions
from keras_cascade.cli.trainer import batched

FEATURES, CLASSES = 6, 4


def points(rows, seed=12):
    """Labelled points around four centres."""
    centres = np.random.default_rng(99).normal(size=(CLASSES, FEATURES))
    y = np.arange(rows) % CLASSES
    noise = np.random.default_rng(seed).normal(size=(rows, FEATURES))
    return (centres[y] + 0.7 * noise).astype("float32"), y


def calibrated_cascade(folder, objective, gate=None, features=FEATURES):
    """`(Cascade, data spec)`: a linear student of a linear teacher.

    The weights are the centres themselves, so nothing is trained.
    """
    x, y = points(600)
    file = folder / "points.npz"
    np.savez(file, x=x, y=y)
    centres = np.random.default_rng(99).normal(size=(CLASSES, FEATURES))

    def model(noise):
        rng = np.random.default_rng(1)
        layer = keras.layers.Dense(CLASSES)
        made = keras.Sequential([keras.Input((FEATURES,)), layer])
        weights = centres + noise * rng.normal(size=centres.shape)
        layer.set_weights([2 * weights.T, -(weights**2).sum(axis=1)])
        return made

    options = {} if gate is None else {"gate": gate}
    cascade = kc.Cascade(model(0.0), model(0.3), **options)
    cascade.compile(optimizer="adam")
    splits = DataOptions().load(f"npz:{file}", 0)
    cascade.calibrate(batched(splits)["calibration"], objective)
    return cascade, f"npz:{file}"
