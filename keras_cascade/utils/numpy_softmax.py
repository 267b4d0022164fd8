"""Softmax of NumPy arrays, for code that must not load Keras."""

import numpy as np


def numpy_softmax(logits):
    """Softmax over the last axis, in float64.

    Args:
        logits: float array `(..., classes)`.

    Returns:
        float64 array of the same shape.
    """
    logits = np.asarray(logits, dtype="float64")
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)
