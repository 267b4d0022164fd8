"""Delegation decisions at one threshold."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

#: One threshold, or one for each class that the student predicts.
Threshold = float | Sequence[float]


def delegated_at(
    scores: npt.ArrayLike,
    threshold: Threshold,
    predicted: npt.ArrayLike | None = None,
) -> np.ndarray:
    """Mask of the delegated examples, those with `score < threshold`.

    The comparison is made in the scores' own precision, as the device makes
    it.

    Args:
        scores: float array `(examples,)`.
        threshold: float, finite; or one for each class that the student
            predicts.
        predicted: int array `(examples,)`, the student's classes, with one
            threshold for each. Defaults to `None`.

    Returns:
        Bool array `(examples,)`.

    Example:

    >>> import keras_cascade as kc
    >>> kc.evaluation.delegated_at([0.1, 0.5, 0.9], 0.5).tolist()
    [True, False, False]
    """
    if not np.isfinite(threshold).all():
        raise ValueError(
            f"Expected a finite threshold. Received: {threshold}. To delegate "
            "nothing or everything, use the first or the last of the deferral "
            "curve's thresholds."
        )
    scores = np.asarray(scores)
    if scores.dtype not in (np.float32, np.float64):
        scores = scores.astype("float64")
    limits = np.finfo(scores.dtype)
    cut = np.clip(
        np.asarray(threshold, dtype="float64"), limits.min, limits.max
    ).astype(scores.dtype)
    if cut.ndim:
        if predicted is None:
            raise ValueError(
                "Expected the class that the student predicts for each "
                "example, with a threshold for each class. Received none."
            )
        cut = cut[np.asarray(predicted)]
    # What is not a number is delegated, as a gate does.
    return ~(scores >= cut)
