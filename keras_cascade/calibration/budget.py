"""Base class of objectives that limit the delegation rate."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from keras_cascade.calibration.exact_tests import most_allowed
from keras_cascade.calibration.objective import CHOSEN_AFTERWARDS, Objective
from keras_cascade.utils.validation import check_number

if TYPE_CHECKING:
    from keras_cascade.calibration.calibration_sample import CalibrationSample


class Budget(Objective):
    """Objective with an upper limit of the delegation rate, which it exhausts.

    The delegation rate rises with the threshold, so the exact binomial test
    of each candidate, from delegating nothing upwards, needs no correction
    for their number.

    A subclass implements `max_rate_for(sample)`.

    Args:
        tolerance: float in [0, 1], the accepted distance below the limit; one
            calibration example is always accepted. Defaults to `0.01`.
        confidence: float in (0, 1), or `None`. Defaults to `None`.
    """

    spends_budget = True
    splits_over_classes = True
    certain = "keep"

    def __init__(
        self, tolerance: float = 0.01, confidence: float | None = None
    ):
        super().__init__(confidence)
        self.tolerance = check_number("tolerance", tolerance, 0.0, 1.0)

    def max_rate_for(self, sample: "CalibrationSample") -> float:
        """Returns the largest allowed delegation rate, a float."""
        raise NotImplementedError(f"{type(self).__name__}.max_rate_for")

    def meets(self, sample: "CalibrationSample") -> np.ndarray:
        if self.confidence is None:
            # Rates are sums of weights: allow for their last bit.
            limit = self.max_rate_for(sample)
            return sample.curve.delegation_rate <= limit + 1e-12
        return sample.delegated <= self._most(sample)

    def choose(self, sample: "CalibrationSample") -> int:
        met = np.flatnonzero(self.meets(sample))
        if met.size == 0:
            raise ValueError(self.error_message(sample))
        self.check_reached(sample, int(met[-1]))
        return int(met[-1])

    def check_reached(self, sample: "CalibrationSample", index: int) -> None:
        """Raises a `ValueError` if tied scores put the limit out of reach."""
        rates = sample.curve.delegation_rate
        rate, limit = rates[index], min(self.max_rate_for(sample), 1.0)
        if self.confidence is not None:
            rate = sample.delegated[index] / sample.trials
            limit = self._most(sample) / sample.trials
        near = max(self.tolerance, 1.0 / sample.trials)
        if limit - rate > near + 1e-12:
            around = [rates[index], rates[index + 1]]
            what, afterwards = "Attainable around it", ""
            if self.confidence is not None:
                what = "What can be guaranteed around it"
                afterwards = f" {CHOSEN_AFTERWARDS}"
                around = [
                    self._guaranteeable(sample, i) for i in (index, index + 1)
                ]
            raise ValueError(
                f"{self} cannot be met: too many examples share one score. "
                f"Expected: a delegation rate within {near:.4f} below "
                f"{limit:.4f}. {what}: {around[0]:.4f} and "
                f"{around[1]:.4f}. Ask for one of these, or pass a "
                f"larger `tolerance`.{afterwards}"
            )

    def error_message(self, sample: "CalibrationSample") -> str:
        limit = self.max_rate_for(sample)
        if limit <= 0:
            return (
                f"{self} cannot be guaranteed: no number of examples shows a "
                "rate of 0. To delegate nothing, set the threshold to "
                "`numpy.finfo('float32').min`."
            )
        lowest = 1 - self.error ** (1 / sample.trials)
        needed = math.ceil(math.log(self.error) / math.log1p(-limit))
        return (
            f"{self} cannot be guaranteed: {sample.trials} calibration "
            "examples are too few to tell a delegation rate below "
            f"{lowest:.4f} from none. Expected: at least {needed} examples. "
            "Collect more, or ask for a higher limit or a lower confidence."
        )

    def get_config(self) -> dict[str, Any]:
        return {"tolerance": self.tolerance, **super().get_config()}

    def _guaranteeable(self, sample, index):
        """Returns the lowest limit that the count of a candidate shows.

        Clopper and Pearson's upper limit, rounded up to what is printed.
        """
        count, trials = int(sample.delegated[index]), sample.trials
        if count == trials:
            return 1.0
        limit = stats.beta.ppf(1 - self.error, count + 1, trials - count)
        return math.ceil(1e4 * limit) / 1e4

    def _most(self, sample):
        limit = self.max_rate_for(sample)
        return most_allowed(sample.trials, limit, self.error)
