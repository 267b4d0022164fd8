"""Checks of arguments: numbers, columns, weights and labels. NumPy only."""

import numbers
from typing import cast

import numpy as np
import numpy.typing as npt


def check_number(name: str, value: float, low: float, high: float) -> float:
    """Returns `value` as a float in [low, high], or raises.

    Args:
        name: str, for the error message.
        value: number. Booleans are none.
        low: number.
        high: number.
    """
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not (number and low <= value <= high):
        hint = ""
        if number and high == 1 < value <= 100:
            hint = f" Write {value:g} % as {value / 100:g}."
        raise ValueError(
            f"Expected `{name}` to be a number in [{low}, {high}]. "
            f"Received: {value!r}.{hint}"
        )
    return float(value)


def check_column(name: str, values: npt.ArrayLike, rows: int) -> np.ndarray:
    """Returns an array `(rows,)` without NaN or infinity, or raises.

    Args:
        name: str, for the error message.
        values: array `(rows,)`.
        rows: int, number of examples.
    """
    values = np.asarray(values)
    if values.shape != (rows,):
        raise ValueError(_wrong_shape(name, values.shape, rows))
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError(
            f"Expected {name} to be finite. Received NaN or infinity in "
            f"{int((~np.isfinite(values)).sum())} of {rows} examples."
        )
    return values


def check_booleans(
    name: str, values: npt.ArrayLike, rows: int | None = None
) -> np.ndarray:
    """Returns a bool array, or raises; zeros and ones are accepted.

    Args:
        name: str, for the error message.
        values: array of booleans, or of 0 and 1.
        rows: int, number of examples. Defaults to `None`: any shape.
    """
    values = np.asarray(values)
    if rows is not None and values.shape != (rows,):
        raise ValueError(_wrong_shape(name, values.shape, rows))
    if values.dtype != bool and not np.isin(values, (0, 1)).all():
        raise ValueError(
            f"Expected {name} to hold booleans. Received values such as "
            f"{values.ravel()[:3].tolist()}."
        )
    return values.astype(bool, copy=False)


def check_quality(
    name: str, values: npt.ArrayLike, rows: int | None = None
) -> np.ndarray:
    """Returns a bool or float64 array of qualities in [0, 1], or raises.

    An example's quality is 1 less its loss. Where all of them are 0 or 1, in
    whatever type, they are booleans.

    Args:
        name: str, for the error message.
        values: array of booleans, or of numbers in [0, 1].
        rows: int, number of examples. Defaults to `None`: any shape.
    """
    values = np.asarray(values)
    if values.dtype.kind != "f":
        return check_booleans(name, values, rows)
    if rows is not None and values.shape != (rows,):
        raise ValueError(_wrong_shape(name, values.shape, rows))
    usable = (values >= 0) & (values <= 1)  # NaN is neither
    if not usable.all():
        raise ValueError(
            f"Expected {name} to hold booleans, or the quality of each answer "
            "in [0, 1], which is 1 less its loss. Received values such as "
            f"{values[~usable].ravel()[:3].tolist()} in "
            f"{int((~usable).sum())} of {values.size} examples. Divide a loss "
            "by its largest possible value, and subtract it from 1."
        )
    if ((values == 0) | (values == 1)).all():
        return values.astype(bool)
    return values.astype("float64", copy=False)


def check_qualities(
    student: npt.ArrayLike, teacher: npt.ArrayLike, rows: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns two columns of qualities of one type, bool or float64.

    A column of booleans beside one of fractions is taken as floats.

    Args:
        student: array of booleans, or of numbers in [0, 1].
        teacher: array of booleans, or of numbers in [0, 1].
        rows: int, number of examples. Defaults to `None`: any shape.
    """
    student = check_quality("student_correct", student, rows)
    teacher = check_quality("teacher_correct", teacher, rows)
    if student.dtype != teacher.dtype:
        return student.astype("float64"), teacher.astype("float64")
    return student, teacher


def check_weight(
    sample_weight: npt.ArrayLike | None, rows: int | None = None
) -> np.ndarray:
    """Returns a float64 array of non-negative weights, or raises.

    Args:
        sample_weight: float array `(examples,)`; with `rows` also `None`:
            every example counts the same.
        rows: int, number of examples. Defaults to `None`: as many as weights.
    """
    if sample_weight is None:
        return np.ones(cast("int", rows))
    weight = np.asarray(sample_weight, dtype="float64")
    if weight.ndim != 1 or (rows is not None and len(weight) != rows):
        expected = (
            "one number an example" if rows is None else f"{rows} numbers"
        )
        raise ValueError(
            f"Expected sample_weight to hold {expected}. Received an array "
            f"of shape {weight.shape}."
        )
    if not _are_weights(weight):
        raise ValueError(
            "Expected sample_weight to hold finite numbers >= 0, not all 0. "
            f"Received values such as {weight[:3].tolist()}."
        )
    return weight


def check_frequencies(values: npt.ArrayLike, item: str) -> np.ndarray:
    """Returns a float64 array of non-negative frequencies, or raises.

    Args:
        values: float array.
        item: str, what each frequency belongs to, for the error message.
    """
    values = np.asarray(values, dtype="float64")
    if not _are_weights(values):
        raise ValueError(
            f"Expected a frequency >= 0 for each {item}, not all 0. "
            f"Received: {values.tolist()}."
        )
    return values


def check_labels(
    labels: npt.ArrayLike, rows: int | None = None, classes: int | None = None
) -> np.ndarray:
    """Returns class labels as an int64 array, or raises.

    Args:
        labels: array `(examples,)` of whole numbers >= 0.
        rows: int, number of examples. Defaults to `None`: any, but not 0.
        classes: int, number of classes; labels must be below it. Defaults to
            `None`: any label >= 0.
    """
    labels = np.asarray(labels)
    if rows is not None and labels.shape != (rows,):
        raise ValueError(_wrong_shape("labels", labels.shape, rows))
    labels = labels.reshape(-1)
    whole = labels.dtype.kind != "f" or (labels == np.floor(labels)).all()
    if whole:
        labels = labels.astype("int64")
    if classes is None and not (whole and labels.size and labels.min() >= 0):
        raise ValueError(
            "Expected at least one label, all of them integers >= 0. "
            f"Received: {labels[:5].tolist()}."
        )
    if classes is not None and not (
        whole and labels.min() >= 0 and labels.max() < classes
    ):
        raise ValueError(
            f"Expected integer labels from 0 to {classes - 1}, one of "
            f"{classes} classes. Received: {labels.dtype} values from "
            f"{labels.min()} to {labels.max()}."
        )
    return labels


def check_scores(scores: npt.ArrayLike) -> np.ndarray:
    """Returns finite scores as a float64 array `(examples,)`, or raises.

    Args:
        scores: float array with at least one score.
    """
    scores = np.asarray(scores, "float64").reshape(-1)
    if not scores.size or not np.isfinite(scores).all():
        raise ValueError(
            "Expected at least one score, and only finite ones. Received: "
            f"{scores.size}, {int((~np.isfinite(scores)).sum())} not finite."
        )
    return scores


def _are_weights(values):
    """Non-negative and finite numbers in one dimension, not all 0."""
    return bool(
        values.ndim == 1
        and values.size
        and np.isfinite(values).all()
        and values.min() >= 0
        and np.isfinite(values.sum())
        and values.max() > 0
    )


def _wrong_shape(name, shape, rows):
    return (
        f"Expected {name} to hold one value for each of {rows} examples. "
        f"Received an array of shape {shape}."
    )
