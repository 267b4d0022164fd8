"""How much a weighted sample knows."""

import numpy as np


def effective_examples(sample_weight):
    """Number of equally weighted examples that would know as much.

    `(Σ w)² / Σ w²`. Source: Kish, Survey Sampling, 1965.

    Args:
        sample_weight: float array `(examples,)`, non-negative.

    Returns:
        Float, at least 1 and at most the number of examples.

    Example:

    >>> import keras_cascade as kc
    >>> kc.evaluation.effective_examples([1.0, 1.0, 1.0, 1.0])
    4.0
    >>> round(kc.evaluation.effective_examples([3.0, 1.0]), 3)
    1.6
    """
    weight = check_weight(sample_weight)
    # Scaled, so that squares of tiny or huge weights stay numbers.
    weight = weight / weight.max()
    return float(weight.sum() ** 2 / (weight**2).sum())


def check_weight(sample_weight, rows=None):
    """Weights as a float64 array, or an error.

    Args:
        sample_weight: float array `(examples,)`, or `None` with `rows`: every
            example counts the same.
        rows: optional int, how many examples there are. Defaults to `None`:
            as many as weights.
    """
    if sample_weight is None:
        return np.ones(rows)
    weight = np.asarray(sample_weight, dtype="float64")
    if weight.ndim != 1 or (rows is not None and len(weight) != rows):
        expected = (
            "one number an example" if rows is None else f"{rows} numbers"
        )
        raise ValueError(
            f"Expected sample_weight to hold {expected}. Received an array "
            f"of shape {weight.shape}."
        )
    if not (
        weight.size
        and np.isfinite(weight).all()
        and weight.min() >= 0 < weight.max()
    ):
        raise ValueError(
            "Expected sample_weight to be non-negative, finite and not all "
            "zero."
        )
    return weight


def check_column(name, values, rows, kind="numbers"):
    """A column as an array with one finite number an example, or an error.

    Args:
        name: str, for the error.
        values: array `(examples,)`.
        rows: int.
        kind: `"numbers"` or `"booleans"`. Defaults to `"numbers"`.
    """
    values = np.asarray(values)
    if values.shape != (rows,):
        raise ValueError(
            f"Expected {name} to hold one value for each of {rows} examples. "
            f"Received an array of shape {values.shape}."
        )
    if kind == "booleans" and not np.isin(values, (0, 1)).all():
        raise ValueError(
            f"Expected {name} to hold booleans. Received values such as "
            f"{values[:3].tolist()}."
        )
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError(
            f"Expected {name} to be finite. Received NaN or infinity in "
            f"{int((~np.isfinite(values)).sum())} of {rows} examples."
        )
    return values.astype(bool) if kind == "booleans" else values
