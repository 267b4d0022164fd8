"""Calibration of the student's confidence: reliability diagram and ECE."""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_cascade.utils.validation import (
    check_booleans,
    check_column,
    check_weight,
)

# How far a float32 softmax may stray above 1.
_ROUNDING = 1e-5


@dataclasses.dataclass(frozen=True, eq=False)
class Reliability:
    """Reliability diagram: accuracy against confidence per bin.

    Attributes:
        edges: float array `(bins + 1,)`, from 0 to 1.
        confidence: float array `(bins,)`, mean confidence; NaN in an empty
            bin.
        accuracy: float array `(bins,)`; NaN in an empty bin.
        weight: float array `(bins,)`, share of the examples; sums to 1.
    """

    edges: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    weight: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error, the weighted mean gap."""
        filled = self.weight > 0
        gap = np.abs(self.confidence - self.accuracy)[filled]
        return float(gap @ self.weight[filled])

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-compatible dict; `None` where a bin is empty."""

        def listed(values):
            return [
                float(value) if weight > 0 else None
                for value, weight in zip(values, self.weight, strict=True)
            ]

        return {
            "edges": self.edges.tolist(),
            "confidence": listed(self.confidence),
            "accuracy": listed(self.accuracy),
            "weight": self.weight.tolist(),
        }


def reliability_diagram(
    confidence: npt.ArrayLike,
    correct: npt.ArrayLike,
    sample_weight: npt.ArrayLike | None = None,
    bins: int = 15,
) -> Reliability:
    """Computes a reliability diagram with bins of equal width.

    A bin holds its upper edge, the first one also 0. Source: Guo et al.,
    arXiv 1706.04599.

    Args:
        confidence: float array `(examples,)`, the largest probability, in
            [0, 1].
        correct: bool array `(examples,)`.
        sample_weight: optional float array `(examples,)`, non-negative.
            Defaults to `None`.
        bins: int >= 1. Defaults to `15`.

    Returns:
        `Reliability`.

    Raises:
        ValueError: lengths differ, no examples, confidences outside [0, 1].

    Example:

    >>> import keras_cascade as kc
    >>> diagram = kc.evaluation.reliability_diagram(
    ...     [0.9, 0.7, 0.2], [True, False, False], bins=2
    ... )
    >>> diagram.accuracy.tolist(), diagram.confidence.round(2).tolist()
    ([0.0, 0.5], [0.2, 0.8])
    """
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
        raise ValueError(
            f"Expected `bins` to be an int >= 1. Received: {bins}."
        )
    confidence = np.asarray(confidence, dtype="float64")
    if confidence.ndim != 1 or confidence.size == 0:
        raise ValueError(
            "Expected confidence to hold one number an example. Received an "
            f"array of shape {confidence.shape}."
        )
    rows = len(confidence)
    check_column("confidence", confidence, rows)
    correct = check_booleans("correct", correct, rows)
    weight = check_weight(sample_weight, rows)
    if confidence.min() < 0 or confidence.max() > 1 + _ROUNDING:
        raise ValueError(
            "Expected confidences in [0, 1]. Received numbers from "
            f"{confidence.min():.4g} to {confidence.max():.4g}. Pass "
            "probabilities, not logits."
        )
    edges = np.linspace(0, 1, bins + 1)
    bin_of = np.searchsorted(edges[1:-1], confidence, side="left")

    def summed(values):
        return np.bincount(bin_of, weights=values, minlength=bins)

    share = summed(weight)
    empty = np.full(bins, np.nan)
    return Reliability(
        edges=edges,
        confidence=np.divide(
            summed(weight * confidence),
            share,
            out=empty.copy(),
            where=share > 0,
        ),
        accuracy=np.divide(
            summed(weight * correct), share, out=empty.copy(), where=share > 0
        ),
        weight=share / share.sum(),
    )


def expected_calibration_error(
    confidence: npt.ArrayLike,
    correct: npt.ArrayLike,
    sample_weight: npt.ArrayLike | None = None,
    bins: int = 15,
) -> float:
    """Mean gap between confidence and accuracy over equal-width bins.

    Source: Naeini et al., AAAI 2015; Guo et al., arXiv 1706.04599.

    Args:
        confidence: float array `(examples,)`, the largest probability, in
            [0, 1].
        correct: bool array `(examples,)`.
        sample_weight: optional float array `(examples,)`, non-negative.
            Defaults to `None`.
        bins: int >= 1. Defaults to `15`.

    Returns:
        Float in [0, 1].

    Example:

    >>> import keras_cascade as kc
    >>> round(
    ...     kc.evaluation.expected_calibration_error(
    ...         [0.9, 0.7, 0.2], [True, False, False], bins=2
    ...     ),
    ...     4,
    ... )  # 1/3 · |0.2 - 0| + 2/3 · |0.8 - 0.5|
    0.2667
    """
    return reliability_diagram(confidence, correct, sample_weight, bins).error
