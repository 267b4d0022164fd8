"""Histogram of calibration scores, the reference of the drift monitor."""

import numpy as np
import numpy.typing as npt

from keras_cascade.evaluation.delegated_at import Threshold, delegated_at

BINS = 50
#: More examples than this do not improve the 49 edges noticeably.
MOST_FOR_EDGES = 1000
# Its own stream: a monitor's tie-breaks must not depend on this split.
SEED = 210_210_439


def score_bins(
    scores: npt.ArrayLike,
    threshold: Threshold,
    sample_weight: npt.ArrayLike | None = None,
    seed: int = SEED,
    *,
    predicted: npt.ArrayLike | None = None,
) -> dict:
    """Histogram of calibration scores over bins that do not depend on them.

    The examples are split at random: one part, at most half, sets the bins'
    edges at its quantiles, the other is counted. Whatever the edges, the
    counted examples and live ones are then exchangeable as long as nothing
    drifts, which makes `keras_cascade.DriftMonitor`'s test exact.

    Edges lie halfway between the points of a grid of 1/10000 of the scores'
    range, so that scores which tie, or would tie but for the rounding of
    another processor, fall into one bin.

    Args:
        scores: float array `(examples,)`, finite, of the student's file.
        threshold: float. Delegate when `score < threshold`. Or one float
            for each class that the student predicts.
        sample_weight: optional float array `(examples,)`, non-negative: how
            often an example like this one comes in deployment. Examples are
            then first drawn by rejection, each kept with the probability
            `weight / largest weight`, which gives an unweighted sample of
            that traffic. Defaults to `None`.
        seed: int. Defaults to `210210439`.
        predicted: int array `(examples,)`, the student's classes, with a
            threshold for each. Defaults to `None`.

    Returns:
        Dict of `edges`, increasing floats; `counts`, one int more than edges:
        bin i holds `edges[i - 1] <= score < edges[i]`; `examples`, the size
        of the unweighted sample; `delegated`, how many of it lie below the
        threshold.

    Example:

    >>> from keras_cascade.export.score_bins import score_bins
    >>> bins = score_bins([0.0, 0.0, 1.0, 1.0] * 50, threshold=0.5)
    >>> [round(edge, 5) for edge in bins["edges"]]
    [-5e-05, 0.99995, 1.00005]
    >>> bins["counts"][0], sum(bins["counts"]), bins["delegated"]
    (0, 100, 100)
    """
    rng = np.random.default_rng(seed)
    sample = np.asarray(scores)
    # Compared as the gate compares, in the scores' own precision.
    delegated = delegated_at(sample, threshold, predicted)
    if sample_weight is not None:
        weight = np.asarray(sample_weight, dtype="float64")
        drawn = rng.random(len(sample)) < weight / weight.max()
        sample, delegated = sample[drawn], delegated[drawn]
    shuffled = rng.permutation(sample.astype("float64"))
    placing = min(len(shuffled) // 2, MOST_FOR_EDGES)
    edges = _edges(shuffled[:placing])
    bins = np.searchsorted(edges, shuffled[placing:], side="right")
    return {
        "edges": edges.tolist(),
        "counts": np.bincount(bins, minlength=len(edges) + 1).tolist(),
        "examples": len(sample),
        "delegated": int(delegated.sum()),
    }


def _edges(scores):
    """Edges below every quantile, and above the largest score."""
    if not scores.size:
        return scores
    lowest, highest = scores.min(), scores.max()
    largest = max(abs(lowest), abs(highest))
    step = max(1e-4 * (highest - lowest), 1e-6 * largest) or 1e-4
    points = np.rint((scores - lowest) / step)
    quantiles = np.quantile(
        points, np.arange(BINS - 2) / (BINS - 2), method="inverted_cdf"
    )
    cuts = np.append(quantiles - 0.5, points.max() + 0.5)
    return np.unique(lowest + cuts * step)
