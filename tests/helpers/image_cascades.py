"""Small cascades of images, of weights that nobody trained."""

import keras
import numpy as np

import keras_cascade as kc
from keras_cascade.utils.image_format import scaled

SHAPE, CLASSES = (8, 8, 1), 4


def pixels(rows, seed=0):
    """uint8 images with the class in their brightness and grain."""
    rng = np.random.default_rng(seed)
    y = np.arange(rows) % CLASSES
    x = rng.integers(0, 256, (rows, *SHAPE))
    x[:, : 2 * CLASSES : 2] = (x[:, : 2 * CLASSES : 2] // 2).astype(int)
    for row in range(rows):
        x[row, 2 * y[row] : 2 * y[row] + 2] += 60
    return x.clip(0, 255).astype("uint8"), y


def model(noise, scale="0-1", name=None):
    """A convnet that finds the bright rows."""
    low = {"0-1": 0.0, "0-255": 0.0, "-1-1": -1.0}[scale]
    width = {"0-1": 1.0, "0-255": 255.0, "-1-1": 2.0}[scale]
    rng = np.random.default_rng(3)
    layers = keras.layers
    made = keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(2, 2, strides=2, activation="relu", name="conv"),
            layers.Flatten(),
            layers.Dense(CLASSES, name="logits"),
        ],
        name=name,
    )
    kernel = np.ones((2, 2, 1, 2)) / width
    bias = np.full(2, -4 * low / width)
    dense = np.zeros((4, 4, 2, CLASSES))
    for label in range(CLASSES):
        dense[label, :, :, label] = 1
    dense = dense.reshape(32, CLASSES)
    dense = dense + noise * rng.normal(size=dense.shape)
    made.layers[0].set_weights([kernel, bias])
    made.layers[2].set_weights([dense, np.zeros(CLASSES)])
    return made


def image_cascade(scale="0-1", gate=None, rows=400):
    """`(Cascade, images, labels)`, calibrated on the images.

    Args:
        scale: str, of the images that the models take.
        gate: `Gate`, or `None` for a margin gate.
        rows: int.
    """
    x, y = pixels(rows)
    x = scaled(x, scale)
    options = {} if gate is None else {"gate": gate}
    cascade = kc.Cascade(
        model(0.0, scale, "teacher"), model(0.15, scale, "student"), **options
    )
    cascade.compile(optimizer="adam")
    if hasattr(cascade.gate, "fit"):
        cascade.fit_gate((x[rows // 2 :], y[rows // 2 :]))
        x, y = x[: rows // 2], y[: rows // 2]
    cascade.calibrate((x, y), kc.MaxDelegationRate(0.3))
    return cascade, x, y
