"""Tensor operations shared by distillation and gates."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_cascade.utils.top_k_logits import TopKLogits

#: With more classes, the softmax and the argmax are not computed whole.
MANY_CLASSES = 1024
#: Below every logit.
LOWEST = -3e38
#: A tensor of the active backend, or an array that becomes one.
Tensor = Any


def as_float(tensor):
    """Casts a tensor to float32; float64 is left unchanged.

    Losses and scores are computed in at least float32, whatever the models'
    own precision. `TopKLogits` are left unchanged: they are in float32.
    """
    if isinstance(tensor, TopKLogits):
        return tensor
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
        logits: float tensor of shape `(batch, classes)`, `classes >= 2`; or
            `TopKLogits`.

    Returns:
        Float tensor of shape `(batch,)`.
    """
    if isinstance(logits, TopKLogits):
        shares, _ = logits.shares()
    elif logits.shape[-1] > MANY_CLASSES:
        return _margin_of_many(logits)
    else:
        shares = ops.softmax(logits, axis=-1)
    top = ops.max(shares, axis=-1, keepdims=True)
    is_top = ops.equal(shares, top)
    others = ops.where(is_top, 0.0, shares)
    lead = top - ops.max(others, axis=-1, keepdims=True)
    count = ops.sum(ops.cast(is_top, shares.dtype), axis=-1, keepdims=True)
    margin = ops.where(ops.less(count, 1.5), lead / ops.minimum(count, 1), 0.0)
    return margin[:, 0]


def threshold_of_predicted(probabilities, thresholds):
    """Threshold of the class with the highest probability, the first of ties.

    With comparisons and maxima only: a lookup by `argmax` has no TFLite
    built-in, and microcontrollers have no minimum. A row that is not a number
    gets the highest float32, below which every score is.

    Args:
        probabilities: float tensor of shape `(batch, classes)`.
        thresholds: sequence of one float32 value for each class.

    Returns:
        Float tensor of shape `(batch,)`.
    """
    classes = len(thresholds)
    if probabilities.shape[-1] != classes:
        raise ValueError(
            f"Expected a threshold for each of {probabilities.shape[-1]} "
            f"classes. Received: {classes}."
        )
    dtype = probabilities.dtype
    countdown = ops.cast(np.arange(classes, 0, -1)[None], dtype)
    negated = ops.cast(-np.asarray(thresholds, "float32")[None], dtype)
    lowest = ops.cast(-np.finfo("float32").max, dtype)
    top = ops.max(probabilities, axis=-1, keepdims=True)
    first = ops.max(
        ops.where(ops.equal(probabilities, top), countdown, 0.0),
        axis=-1,
        keepdims=True,
    )
    chosen = ops.where(ops.equal(countdown, first), negated, lowest)
    return -ops.max(chosen, axis=-1)


def _margin_of_many(logits):
    """`softmax_margin` in four sums and maxima, without the array of shares.

    With the largest logit z and the second largest z', the margin is
    `(1 − exp(z' − z)) / Σ exp(z_k − z)`.
    """
    top = ops.max(logits, axis=-1, keepdims=True)
    second = ops.max(
        ops.where(ops.less(logits, top), logits, LOWEST),
        axis=-1,
        keepdims=True,
    )
    # One after the other: reductions that wait for none of the others are
    # fused into one loop by XLA, which takes five times as long.
    is_top = ops.equal(logits, top + 0.0 * second)
    count = ops.sum(ops.cast(is_top, logits.dtype), axis=-1, keepdims=True)
    total = ops.sum(
        ops.exp(logits - (top + 0.0 * count)), axis=-1, keepdims=True
    )
    margin = (1.0 - ops.exp(second - top)) / total
    # 0 divided by 0 in a row that is not a number: nothing equals its top.
    margin = margin / ops.minimum(count, 1.0)
    return ops.where(ops.less(count, 1.5), margin, 0.0)[:, 0]


def is_right(logits, labels):
    """Boolean mask `(batch,)`, true where the top class is the label.

    Of equal logits the first class is the top one, as `argmax` has it.
    """
    labels = ops.cast(labels, "int32")
    if isinstance(logits, TopKLogits):
        predicted = logits.top_class()
    elif logits.shape[-1] > MANY_CLASSES:
        # XLA's argmax takes four times as long on a processor.
        index = labels[:, None]
        top = ops.max(logits, axis=-1, keepdims=True)
        own = ops.take_along_axis(logits, index, axis=-1)
        earlier = ops.logical_and(
            ops.equal(logits, top), ops.arange(logits.shape[-1]) < index
        )
        return ops.logical_and(
            ops.equal(own, top)[:, 0],
            ops.logical_not(ops.any(earlier, axis=-1)),
        )
    else:
        predicted = ops.cast(ops.argmax(logits, axis=-1), "int32")
    return ops.equal(predicted, labels)


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
