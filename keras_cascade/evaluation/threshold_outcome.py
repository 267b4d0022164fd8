"""What a cascade does at one threshold."""

import math

import numpy as np

from keras_cascade.errors import UndefinedMetricError


def delegated_at(scores, threshold):
    """Which examples go to the teacher: those with `score < threshold`.

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
    threshold = np.clip(float(threshold), limits.min, limits.max)
    # What is not a number is delegated, as a gate does.
    return ~(scores >= threshold.astype(scores.dtype))


def share_among(values, among, weight, nothing):
    """Weighted mean of some of the values.

    Args:
        values: bool array `(examples,)`.
        among: bool array `(examples,)`, which ones.
        weight: float array `(examples,)`.
        nothing: str, the reason to give where these have no weight.

    Raises:
        UndefinedMetricError: no example, or none with weight.
    """
    if not weight[among].sum() > 0:
        raise UndefinedMetricError(nothing)
    return float(np.average(values[among], weights=weight[among]))
