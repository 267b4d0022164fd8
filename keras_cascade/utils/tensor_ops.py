"""Tensor arithmetic that both distillation and gates stand on."""

import keras
from keras import ops


def as_float(tensor):
    """Returns `tensor` in float32, or as it is when it is float64.

    Losses and scores are computed in at least float32, whatever the models'
    own precision.
    """
    tensor = ops.convert_to_tensor(tensor)
    if keras.backend.standardize_dtype(tensor.dtype) == "float64":
        return tensor
    return ops.cast(tensor, "float32")


def softmax_margin(logits):
    """The margin: top-1 minus top-2 softmax probability, in [0, 1].

    Args:
        logits: float tensor of shape `(batch, classes)`, `classes >= 2`.

    Returns:
        Float tensor of shape `(batch,)`.
    """
    top_two, _ = ops.top_k(ops.softmax(logits, axis=-1), k=2)
    return top_two[:, 0] - top_two[:, 1]


def is_right(logits, labels):
    """Boolean tensor `(batch,)`: true where the top class is the label."""
    predicted = ops.cast(ops.argmax(logits, axis=-1), "int32")
    return ops.equal(predicted, ops.cast(labels, "int32"))


def weighted_mean(values, weights=None):
    """Mean of `values` that divides by the summed weight; 0 for no weight.

    Args:
        values: float tensor of shape `(batch,)`.
        weights: optional float tensor of shape `(batch,)`, non-negative.
            Defaults to `None`: every weight is 1.

    Returns:
        Scalar tensor.
    """
    if weights is None:
        return ops.mean(values)
    weights = ops.cast(weights, values.dtype)
    return ops.divide_no_nan(ops.sum(values * weights), ops.sum(weights))
