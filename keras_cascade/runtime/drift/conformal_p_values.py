"""Conformal p-values of live scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Scores per block, which bounds the table of counts: 1024 x 51 integers.
_BLOCK = 1024


class ConformalPValues:
    """Smoothed conformal p-values of binned scores, in an online setting.

    With `less` earlier examples (calibration's and live ones) in lower bins,
    `equal` in the same one and `total` in all, the p-value is
    `(less + u * (equal + 1)) / (total + 1)`, u uniform in [0, 1). While all
    examples are exchangeable, the p-values are independent and exactly
    uniform, with any ties (Vovk, Gammerman and Shafer, "Algorithmic Learning
    in a Random World", section 2). Low where the student is unsure.

    Args:
        edges: increasing floats.
        counts: one int more than `edges`: bin i holds
            `edges[i - 1] <= score < edges[i]`.
        rng: `numpy.random.Generator`.

    Attributes:
        counts: int array, calibration's and live examples in each bin.

    Example:

    >>> import numpy as np
    >>> from keras_cascade.runtime.drift import conformal_p_values
    >>> p = conformal_p_values.ConformalPValues(
    ...     [0.5], [60, 40], np.random.default_rng(0)
    ... )
    >>> low, high = p.update([0.2, 0.9])
    >>> bool(low < 61 / 101), bool(high >= 61 / 102)
    (True, True)
    """

    def __init__(
        self,
        edges: Sequence[float],
        counts: Sequence[int],
        rng: np.random.Generator,
    ):
        self._edges = np.asarray(edges, dtype="float64")
        self._rng = rng
        self.counts = np.array(counts, dtype="int64")

    def update(self, scores: np.ndarray) -> np.ndarray:
        """Computes the p-values of scores, in their order, and adds them.

        Args:
            scores: float array `(examples,)`, without NaN.

        Returns:
            float array `(examples,)`, in [0, 1).
        """
        bins = np.searchsorted(self._edges, scores, side="right")
        blocks = [
            self._of_block(bins[start : start + _BLOCK])
            for start in range(0, len(bins), _BLOCK)
        ]
        return np.concatenate(blocks) if blocks else np.empty(0)

    def _of_block(self, bins):
        # Row i of `before` has the counts before the i-th score, so that the
        # scores of a block count for those after them without a Python loop.
        rows = np.arange(len(bins))
        added = np.zeros((len(bins) + 1, len(self.counts)), dtype="int64")
        added[0] = self.counts
        added[rows + 1, bins] = 1
        before = added.cumsum(axis=0)
        self.counts = before[-1].copy()
        up_to = before[:-1].cumsum(axis=1)
        equal = before[rows, bins]
        less = up_to[rows, bins] - equal
        u = self._rng.random(len(bins))
        return (less + u * (equal + 1)) / (up_to[:, -1] + 1)
