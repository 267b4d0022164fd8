"""Delegation decisions at one threshold."""

import math

import numpy as np
import numpy.typing as npt


def delegated_at(scores: npt.ArrayLike, threshold: float) -> np.ndarray:
    """Mask of the delegated examples, those with `score < threshold`.

    The comparison is made in the scores' own precision, as the device makes
    it.

    Args:
        scores: float array `(examples,)`.
        threshold: float, finite.

    Returns:
        Bool array `(examples,)`.

    Example:

    >>> import keras_cascade as kc
    >>> kc.evaluation.delegated_at([0.1, 0.5, 0.9], 0.5).tolist()
    [True, False, False]
    """
    if not math.isfinite(threshold):
        raise ValueError(
            f"Expected a finite threshold. Received: {threshold}. To delegate "
            "nothing or everything, use the first or the last of the deferral "
            "curve's thresholds."
        )
    scores = np.asarray(scores)
    if scores.dtype not in (np.float32, np.float64):
        scores = scores.astype("float64")
    limits = np.finfo(scores.dtype)
    cut = np.clip(float(threshold), limits.min, limits.max)
    # What is not a number is delegated, as a gate does.
    return ~(scores >= cut.astype(scores.dtype))
