"""Tensor operations shared by distillation and gates."""

from typing import Any

import keras
from keras import ops

#: A tensor of the active backend, or an array that becomes one.
Tensor = Any


def as_float(tensor):
    """Casts a tensor to float32; float64 is left unchanged.

    Losses and scores are computed in at least float32, whatever the models'
    own precision.
    """
    tensor = ops.convert_to_tensor(tensor)
    if keras.backend.standardize_dtype(tensor.dtype) == "float64":
        return tensor
    return ops.cast(tensor, "float32")


def softmax_margin(logits):
    """Top-1 minus top-2 softmax probability, in [0, 1]; 0 where they tie.

    Without `top_k`, which TFLite has and microcontrollers and accelerators
    have not. A row that is not a number stays one: no share equals its
    maximum, and 0 is divided by 0.

    Args:
        logits: float tensor of shape `(batch, classes)`, `classes >= 2`.

    Returns:
        Float tensor of shape `(batch,)`.
    """
    shares = ops.softmax(logits, axis=-1)
    top = ops.max(shares, axis=-1, keepdims=True)
    is_top = ops.equal(shares, top)
    others = ops.where(is_top, 0.0, shares)
    lead = top - ops.max(others, axis=-1, keepdims=True)
    count = ops.sum(ops.cast(is_top, shares.dtype), axis=-1, keepdims=True)
    margin = ops.where(ops.less(count, 1.5), lead / ops.minimum(count, 1), 0.0)
    return margin[:, 0]


def is_right(logits, labels):
    """Boolean mask `(batch,)`, true where the top class is the label."""
    predicted = ops.cast(ops.argmax(logits, axis=-1), "int32")
    return ops.equal(predicted, ops.cast(labels, "int32"))


def mean_weighted_loss(losses, weights=None):
    """Mean over the examples of `weight · loss`, as Keras reduces a loss.

    The divisor is the number of examples, never the batch's summed weight:
    the gradient's expectation is then that of `E[weight · loss]` at every
    batch size, while with the summed weight a batch that happens to hold
    little weight would count as much as one that holds much.

    Args:
        losses: float tensor of shape `(batch,)`.
        weights: optional float tensor of shape `(batch,)`, non-negative.
            Defaults to `None`: every weight is 1.

    Returns:
        Scalar tensor.
    """
    if weights is not None:
        losses = losses * ops.cast(weights, losses.dtype)
    return ops.mean(losses)
