"""Small cascades of tasks that are not one class per example, calibrated."""

import keras
import numpy as np
from keras import ops

import keras_cascade as kc

FEATURES, LABELS, VALUES = 6, 4, 2
PIXELS, CHANNELS, CLASSES = 4, 2, 3


@keras.saving.register_keras_serializable("tests.bundles")
class Pixels(kc.tasks.Task):
    """A class for each of the pixels of an image: outputs of four axes."""

    activation = "softmax"
    loss_name = "share of wrong pixels"
    default_threshold = 0.5

    def label_loss(self, labels, outputs):
        labels = ops.one_hot(ops.cast(labels, "int32"), outputs.shape[-1])
        return _mean(
            -ops.sum(labels * ops.log_softmax(outputs, axis=-1), axis=-1)
        )

    def distillation_loss(self, teacher_outputs, outputs, temperature):
        targets = ops.softmax(teacher_outputs / temperature, axis=-1)
        return _mean(
            -ops.sum(targets * ops.log_softmax(outputs, axis=-1), axis=-1)
        )

    def score(self, outputs):
        return _mean(ops.max(ops.softmax(outputs, axis=-1), axis=-1))

    def loss(self, labels, answers):
        wrong = ops.not_equal(
            ops.cast(ops.argmax(answers, axis=-1), "int32"),
            ops.cast(labels, "int32"),
        )
        return _mean(ops.cast(wrong, "float32"))


def _mean(losses):
    return ops.mean(losses, axis=(1, 2))


def rows_of_features(rows, seed):
    return (
        np.random.default_rng(seed)
        .normal(size=(rows, FEATURES))
        .astype("float32")
    )


def multilabel_data(rows, seed=0):
    """Inputs, and labels by the signs of noisy linear functions."""
    x = rows_of_features(rows, seed)
    noise = np.random.default_rng(seed + 1000).normal(size=(rows, LABELS))
    return x, (x @ _weights(LABELS) + noise > 0).astype("int32")


def regression_data(rows, seed=0):
    """Inputs, and noisy linear functions of them."""
    x = rows_of_features(rows, seed)
    noise = np.random.default_rng(seed + 1000).normal(size=(rows, VALUES))
    return x, (10 + x @ _weights(VALUES) + 0.3 * noise).astype("float32")


def pixel_data(rows, seed=0):
    """Images of two channels, and their pixels' classes."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, PIXELS, PIXELS, CHANNELS)).astype("float32")
    scores = x @ np.array([[1.0, 0.0, -1.0], [0.0, 1.0, -1.0]])
    return x, scores.argmax(axis=-1).astype("int32")


def _weights(outputs):
    return np.random.default_rng(99).normal(size=(FEATURES, outputs))


def _dense(outputs, weights, noise=0.0, spread=None):
    """Linear model; with a spread it ends in logarithms of variances."""
    rng = np.random.default_rng(3)
    layer = keras.layers.Dense(outputs)
    model = keras.Sequential([keras.Input((FEATURES,)), layer])
    kernel = weights + noise * rng.normal(size=weights.shape)
    bias = np.zeros(kernel.shape[1])
    if spread is not None:
        bias, kernel = spread(rng, kernel)
    layer.set_weights([kernel, bias])
    return model


def _of_gaussian(rng, kernel):
    spreads = 0.3 * rng.normal(size=kernel.shape)
    return np.repeat([10.0, -1.0], VALUES), np.hstack([kernel, spreads])


def _of_quantiles(rng, kernel):
    shift = 0.1 * rng.normal(size=kernel.shape)
    low, high = kernel - shift, kernel + shift
    return np.repeat([9.0, 11.0], VALUES), np.hstack([low, high])


def multilabel_cascade(loss):
    weights = 2 * _weights(LABELS)
    return kc.Cascade(
        _dense(LABELS, weights),
        _dense(LABELS, weights, 0.7),
        task=kc.tasks.MultiLabel(loss),
    )


def regression_cascade(spread="gaussian", **limit):
    weights = _weights(VALUES)
    teacher = _dense(VALUES, weights)
    kernel, _ = teacher.layers[-1].get_weights()
    teacher.layers[-1].set_weights([kernel, np.full(VALUES, 10.0)])
    form = _of_gaussian if spread == "gaussian" else _of_quantiles
    student = _dense(2 * VALUES, weights, 0.3, form)
    return kc.Cascade(
        teacher, student, task=kc.tasks.Regression(spread=spread, **limit)
    )


def pixel_cascade(free=False):
    size = None if free else PIXELS

    def model(noise):
        layer = keras.layers.Conv2D(CLASSES, 1, use_bias=False)
        made = keras.Sequential([keras.Input((size, size, CHANNELS)), layer])
        kernel = np.array([[[[1.0, 0.0, -1.0], [0.0, 1.0, -1.0]]]])
        rng = np.random.default_rng(4)
        layer.set_weights([4 * kernel + noise * rng.normal(size=kernel.shape)])
        return made

    return kc.Cascade(model(0.0), model(2.0), task=Pixels())


#: Name to functions that make a cascade and labelled data.
TASKS = {
    "hamming": (lambda: multilabel_cascade("hamming"), multilabel_data),
    "example": (lambda: multilabel_cascade("example"), multilabel_data),
    "tolerance": (lambda: regression_cascade(tolerance=1.0), regression_data),
    "bound": (
        lambda: regression_cascade("quantiles", bound=3.0),
        regression_data,
    ),
    "pixels": (pixel_cascade, pixel_data),
}


def calibrated(name, rate=0.4):
    """`(Cascade, calibration data)` of a task, by its name in `TASKS`."""
    make, data = TASKS[name]
    cascade, calibration = make(), data(400, 5)
    cascade.compile(optimizer="adam")
    cascade.calibrate(calibration, kc.MaxDelegationRate(rate))
    return cascade, calibration
