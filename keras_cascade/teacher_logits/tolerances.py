"""Gaps between cached and live answers that rounding explains."""

import numpy as np

from keras_cascade.utils.answer_form import LINEAR

#: How far a cached softmax may lie from the live one, by precision.
TOLERANCE = {"float16": 5e-3, "float32": 1e-3}


def tolerance(outputs, activation, dtype):
    """Largest gap of each cached answer of a task to the live one.

    Rounding moves an output z by at most `|z| · 2**-11` in half precision; a
    softmax or sigmoid moves by at most half as much. Beside it come 0.1 % in
    probability, or 1 % of the spread of the values.

    Args:
        outputs: float array, cached, batch first.
        activation: str.
        dtype: str, of the cache.

    Returns:
        Float array that broadcasts over the answers.
    """
    rounding = 2.0**-11 if dtype == "float16" else 1e-5
    if activation != LINEAR:
        return TOLERANCE["float32"] + rounding * np.abs(outputs).max() / 2
    others = tuple(range(outputs.ndim - 1))
    spread = outputs.std(axis=others, keepdims=True)
    return rounding * np.abs(outputs) + 0.01 * spread
