"""What fitting a gate expects of its examples."""

import numpy as np

from keras_cascade.model_checks import check_logits

#: With fewer examples, what is fitted is noise.
MIN_EXAMPLES = 20


def check_outputs(outputs):
    """A float array of logits `(examples, outputs)`, or a `ValueError`."""
    outputs = np.asarray(outputs)
    if outputs.dtype.kind not in "iuf":
        outputs = outputs.astype("float32")
    if len(outputs.shape) == 2 and len(outputs) < MIN_EXAMPLES:
        raise ValueError(
            f"Fitting a gate needs at least {MIN_EXAMPLES} held-out examples. "
            f"Received: {len(outputs)}. A few hundred give a steadier gate."
        )
    check_logits("student", outputs)
    return outputs


def check_labels(labels, rows, classes):
    """An int array `(rows,)` of values from 0 to `classes - 1`."""
    labels = check_column("labels", labels, rows)
    whole = labels.dtype.kind in "iuf" and (labels == np.floor(labels)).all()
    if not (whole and labels.min() >= 0 and labels.max() < classes):
        raise ValueError(
            f"Expected integer labels from 0 to {classes - 1}, one of the "
            f"{classes} student outputs. Received: {labels.dtype} values from "
            f"{labels.min()} to {labels.max()}."
        )
    return labels.astype(int)


def check_correct(name, values, rows):
    """A bool array `(rows,)`."""
    values = check_column(name, values, rows)
    if not np.isin(values, (0, 1)).all():
        raise ValueError(
            f"Expected `{name}` to say true or false of every example. "
            f"Received: {values.dtype} values such as {values[:3].tolist()}."
        )
    return values.astype(bool)


def check_weight(weight, rows):
    """A float array `(rows,)`: `weight`, or ones."""
    if weight is None:
        return np.ones(rows)
    weight = check_column("sample_weight", weight, rows).astype("float64")
    if not (np.isfinite(weight).all() and (weight >= 0).all()):
        raise ValueError(
            "Expected `sample_weight` to hold finite numbers >= 0. Received "
            f"values from {weight.min()} to {weight.max()}."
        )
    counted = int((weight > 0).sum())
    if counted < MIN_EXAMPLES:
        raise ValueError(
            f"Fitting a gate needs at least {MIN_EXAMPLES} held-out examples "
            f"with a weight above 0. Received: {counted}."
        )
    return weight


def check_column(name, values, rows):
    """An array `(rows,)`; a column `(rows, 1)` is taken as one."""
    values = np.asarray(values)
    if values.shape not in ((rows,), (rows, 1)):
        raise ValueError(
            f"Expected `{name}` to hold one value an example, {rows}. "
            f"Received shape: {values.shape}."
        )
    return values.reshape(-1)
