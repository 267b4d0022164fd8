"""Checks of inputs and labels, each with one clear error."""

import functools

import keras
import numpy as np

from keras_cascade.runtime.inputs import text_array


def class_label_check(classes):
    """Function of a batch's labels that runs `check_class_labels`.

    Args:
        classes: int, number of classes.
    """
    return functools.partial(check_class_labels, classes=classes)


def check_class_labels(y, classes):
    """Raises a `ValueError` at the first problem in labels.

    Args:
        y: integer labels, or booleans, `(batch,)` or `(batch, 1)`.
        classes: int, number of classes.
    """
    if y is None:
        raise ValueError(
            "Expected examples with labels, `(x, y)`. Received inputs only."
        )
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] > 1:
        raise ValueError(_two_axes(y, classes))
    if y.ndim not in (1, 2):
        raise ValueError(
            "Expected integer class labels of shape (batch,). Received shape "
            f"{y.shape}." + (" Batch the examples." if y.ndim == 0 else "")
        )
    expected = f"Expected integer class labels from 0 to {classes - 1}."
    if y.dtype.kind in "OSUT":
        raise ValueError(
            f"{expected} Received: names such as {y.ravel()[:3].tolist()}. "
            "Number them, such as with `names, y = numpy.unique(y, "
            "return_inverse=True)`, and pass `class_names=` to `export`."
        )
    if y.dtype.kind == "f" and np.isnan(y).any():
        raise ValueError(
            f"{expected} Received NaN, in {int(np.isnan(y).sum())} of {y.size} "
            "examples: they have no label. Leave them out."
        )
    if y.dtype.kind not in "biuf" or (y != np.floor(y)).any():
        values = y.ravel()
        if y.dtype.kind == "f":
            values = values[values != np.floor(values)]
        raise ValueError(
            f"{expected} Received: {y.dtype} values such as "
            f"{values[:3].tolist()}. For numbers to predict, pass "
            "`task=keras_cascade.tasks.Regression(...)` to the `Cascade`."
        )
    if y.size and not (y.min() >= 0 and y.max() < classes):
        raise ValueError(
            f"Expected labels from 0 to {classes - 1}, because the models "
            f"output {classes} logits. Received labels from {y.min()} to "
            f"{y.max()}."
        )


def _two_axes(y, classes):
    """Error message for labels of shape `(batch, columns)`."""
    numeric = y.dtype.kind in "biuf"
    ones = numeric and np.allclose(y.sum(axis=1), 1, atol=1e-3)
    if numeric and not ones:
        return (
            "Expected one class per example, as an integer or one-hot. "
            f"Received labels of shape {y.shape} that are not one-hot. For "
            "several classes per example, or none, pass `task='multilabel'` "
            "to the `Cascade`."
        )
    if numeric and not np.isin(y, (0, 1)).all():
        return (
            "Expected one class per example, as an integer or one-hot. "
            f"Received labels of shape {y.shape} that are shares, such as "
            f"{y[0][:5].tolist()}. Pass `y.argmax(axis=-1)`; shares to learn "
            "from are a teacher's part."
        )
    return (
        f"Expected class labels of shape (batch,), or one-hot ones of shape "
        f"(batch, {classes}). Received shape {y.shape}. Pass "
        "`y.argmax(axis=-1)`."
    )


def check_inputs(x):
    """Raises a `ValueError` at NaN, infinity or values that are no text."""
    for path, array in keras.tree.flatten_with_path(x):
        array = np.asarray(array)
        name = ".".join(map(str, path)) or "x"
        if array.dtype.kind in "OSUT":
            text_array(array, name)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
            raise ValueError(
                f"Expected finite inputs. Received NaN or infinity in {name}, "
                f"in {int(bad.sum())} of {len(array)} examples (the first is "
                f"row {int(bad.argmax())}). Clean the data before training or "
                "predicting."
            )
