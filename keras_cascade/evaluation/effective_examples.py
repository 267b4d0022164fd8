"""Effective number of weighted examples."""

import numpy.typing as npt

from keras_cascade.utils.validation import check_weight


def effective_examples(sample_weight: npt.ArrayLike) -> float:
    """Kish's effective sample size: the equivalent number of equal weights.

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
