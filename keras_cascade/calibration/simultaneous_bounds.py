"""Confidence bounds that hold simultaneously at every threshold."""

import numpy as np
import numpy.typing as npt
from scipy import stats

from keras_cascade.calibration.calibration_sample import CalibrationSample
from keras_cascade.calibration.objective import Objective

#: Part of the error for the bound that is even over all shares; the rest is
#: for small shares.
EVEN_PART = 0.8
#: Ratio of one count to the next at which a small share is bounded.
RATIO = 1.15


class SimultaneousBounds:
    """Upper bounds that hold at all thresholds at once.

    With the stated confidence the bounds hold for all thresholds together, so
    that a threshold may be chosen after looking at them. An `Objective`, which
    is fixed before, is tighter.

    Both shares, `P(delegated)` and `P(kept, student wrong, teacher right)`
    (which bounds the accuracy drop), are monotone in the threshold: each is,
    up to a factor, a distribution function, and its counts are those of an
    empirical one. With n examples, k of them counted, the bound is the
    smaller of

    - `k/n + √(ln(1/e)/(2n))` with e four fifths of the error: the one-sided
      inequality of Dvoretzky, Kiefer and Wolfowitz with Massart's constant,
      for all thresholds at once;
    - for small shares, where that is wide, Clopper and Pearson's upper limit
      of k rounded up to 0, 1, 2 ... 14, 16, 18 ... (each about a seventh more
      than the last), with the other fifth of the error split over those of
      these counts for which it is the smaller one. It is enough to bound the
      share at the threshold where the count first exceeds such a number,
      because a share at a smaller count is no larger.

    Where qualities are fractions, a kept example counts as such a flip with
    the probability `max(teacher quality − student quality, 0)`, drawn once:
    the share of these draws is the mean of that difference.

    Args:
        scores: float array `(examples,)`, higher = the student is surer.
        student_correct: bool array `(examples,)`, or float array in [0, 1].
        teacher_correct: bool array `(examples,)`, or float array in [0, 1].
        sample_weight: optional float array `(examples,)`; examples are then
            drawn by rejection, as `fit_threshold` does. Defaults to `None`.
        confidence: float in (0, 1), of each of the two kinds of bounds.
            Defaults to `0.95`.
        seed: int, of the draws. Defaults to `0`.

    Example:

    >>> import numpy as np
    >>> import keras_cascade as kc
    >>> scores = np.arange(1000) / 1000
    >>> right = np.ones(1000, dtype=bool)
    >>> bounds = kc.calibration.SimultaneousBounds(scores, scores > 0.1, right)
    >>> bool(bounds.accuracy_drop(0.05) < 0.1 < bounds.accuracy_drop(0.0))
    True
    """

    def __init__(
        self,
        scores: npt.ArrayLike,
        student_correct: npt.ArrayLike,
        teacher_correct: npt.ArrayLike,
        sample_weight: npt.ArrayLike | None = None,
        confidence: float = 0.95,
        seed: int = 0,
    ):
        # An objective checks its confidence.
        self.confidence = Objective(confidence).confidence
        self._sample = CalibrationSample(
            scores, student_correct, teacher_correct, sample_weight, seed=seed
        )
        self._bounds = _bounds_of_counts(
            self._sample.trials, round(1 - confidence, 12)
        )
        self._flips = self._negative_flips(seed)

    @property
    def examples(self) -> int:
        """Number of examples that the bounds rest on, an int."""
        return self._sample.trials

    def accuracy_drop(self, thresholds: npt.ArrayLike) -> np.ndarray:
        """Upper bounds of the accuracy drop against the teacher.

        Args:
            thresholds: float, or float array.

        Returns:
            float64 array of the same shape.
        """
        return self._bound(self._flips, thresholds)

    def delegation_rate(self, thresholds: npt.ArrayLike) -> np.ndarray:
        """Upper bounds of the delegation rate.

        Args:
            thresholds: float, or float array.

        Returns:
            float64 array of the same shape.
        """
        return self._bound(self._sample.delegated, thresholds)

    def _negative_flips(self, seed):
        """Counts of negative flips, drawn where qualities are fractions."""
        sample, examples = self._sample, self._sample.examples
        if not sample.is_fractional:
            return sample.negative_flips
        # A stream of its own, independent of the rejection's.
        draw = np.random.default_rng([seed, 1]).random(len(examples))
        lost = examples.teacher - examples.student
        return examples.kept(sample.counted & (draw[examples.order] < lost))

    def _bound(self, counts, thresholds):
        examples = self._sample.examples
        return self._bounds[counts[examples.candidate_of(thresholds)]]


def _bounds_of_counts(trials, error):
    """Upper bound of the share for each count from 0 to `trials`."""
    counts = np.arange(trials + 1)
    if not trials:
        return np.ones(1)
    even = counts / trials + np.sqrt(
        np.log(1 / (EVEN_PART * error)) / (2 * trials)
    )
    grid = [0]
    while grid[-1] < trials - 1:
        grid.append(min(max(grid[-1] + 1, int(grid[-1] * RATIO)), trials - 1))
    # The fewer limits share the rest of the error, the tighter they are: only
    # those are kept that are tighter than the even bound.
    steps = np.array(grid)
    while steps.size:
        part = (1 - EVEN_PART) * error / len(steps)
        limits = stats.beta.ppf(1 - part, steps + 1, trials - steps)
        tighter = limits < even[steps]
        if tighter.all():
            break
        steps = steps[: np.flatnonzero(~tighter)[0]]
    bounds = np.minimum(even, 1.0)
    if steps.size:
        index = np.searchsorted(steps, counts, side="left")
        small = index < len(steps)
        bounds[small] = np.minimum(bounds[small], limits[index[small]])
    bounds[-1] = 1.0
    return bounds
