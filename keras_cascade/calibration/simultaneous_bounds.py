"""Confidence bounds that hold simultaneously at every threshold."""

import numpy as np
import numpy.typing as npt

from keras_cascade.calibration.calibration_sample import CalibrationSample
from keras_cascade.calibration.exact_tests import most_allowed
from keras_cascade.calibration.objective import Objective

#: Number of values from 1e-4 to 1 that a bound can take.
STEPS = 60


class SimultaneousBounds:
    """Upper bounds that hold at all thresholds at once.

    With the stated confidence the bounds hold for all thresholds together, so
    that a threshold may be chosen after looking at them. An `Objective`, which
    is fixed before, is tighter.

    Both shares, `P(delegated)` and `P(kept, student wrong, teacher right)`
    (which bounds the accuracy drop), are monotone in the threshold. It is
    therefore enough to bound them where they take one of 60 fixed values,
    each by the exact binomial test with a 60th of the error (Bonferroni):
    where a share exceeds such a value, the count is at least what it is at
    that value.

    Args:
        scores: float array `(examples,)`, higher = the student is surer.
        student_correct: bool array `(examples,)`.
        teacher_correct: bool array `(examples,)`.
        sample_weight: optional float array `(examples,)`; examples are then
            drawn by rejection, as `fit_threshold` does. Defaults to `None`.
        confidence: float in (0, 1), of each of the two kinds of bounds.
            Defaults to `0.95`.
        seed: int, of the rejection. Defaults to `0`.

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
        error = (1 - confidence) / STEPS
        self._shares = np.geomspace(1e-4, 1.0, STEPS)
        self._most = np.array(
            [
                most_allowed(self._sample.trials, share, error)
                for share in self._shares
            ]
        )

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
        return self._bound(self._sample.negative_flips, thresholds)

    def delegation_rate(self, thresholds: npt.ArrayLike) -> np.ndarray:
        """Upper bounds of the delegation rate.

        Args:
            thresholds: float, or float array.

        Returns:
            float64 array of the same shape.
        """
        return self._bound(self._sample.delegated, thresholds)

    def _bound(self, counts, thresholds):
        examples = self._sample.examples
        observed = counts[examples.candidate_of(thresholds)]
        # The smallest share that so small a count speaks against.
        index = np.searchsorted(self._most, observed, side="left")
        return self._shares[np.minimum(index, STEPS - 1)]
