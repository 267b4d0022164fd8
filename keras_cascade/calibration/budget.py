"""The base class of objectives that limit what is delegated."""

import math

import numpy as np
from scipy import stats

from keras_cascade.calibration.exact_tests import most_allowed
from keras_cascade.calibration.objective import Objective, check_number


class Budget(Objective):
    """Delegates as much as a limit allows, and no more.

    The delegation rate rises with the threshold, so the exact binomial test
    of each candidate, from delegating nothing upwards, needs no correction
    for their number.

    A subclass implements `max_rate_for(evidence)`.

    Args:
        tolerance: float in [0, 1], how far below the limit is near enough;
            one calibration example always is. Defaults to `0.01`.
        confidence: float in (0, 1), or `None`. Defaults to `None`.
    """

    spends_budget = True

    def __init__(self, tolerance=0.01, confidence=None):
        super().__init__(confidence)
        self.tolerance = check_number("tolerance", tolerance, 0.0, 1.0)

    def max_rate_for(self, evidence):
        """The delegation rate that may not be exceeded."""
        raise NotImplementedError(f"{type(self).__name__}.max_rate_for")

    def meets(self, evidence):
        if self.confidence is None:
            # Rates are sums of weights: allow for their last bit.
            limit = self.max_rate_for(evidence)
            return evidence.curve.delegation_rate <= limit + 1e-12
        return evidence.delegated <= self._most(evidence)

    def choose(self, evidence):
        met = np.flatnonzero(self.meets(evidence))
        if met.size == 0:
            raise ValueError(self.refusal(evidence))
        self.check_reached(evidence, int(met[-1]))
        return int(met[-1])

    def check_reached(self, evidence, index):
        """Raises where tied scores leave the limit out of reach."""
        rates = evidence.curve.delegation_rate
        found, limit = rates[index], min(self.max_rate_for(evidence), 1.0)
        if self.confidence is not None:
            found = evidence.delegated[index] / evidence.trials
            limit = self._most(evidence) / evidence.trials
        near = max(self.tolerance, 1.0 / evidence.trials)
        if limit - found > near + 1e-12:
            around = [rates[index], rates[index + 1]]
            what = "Attainable around it"
            if self.confidence is not None:
                what = "What can be promised around it"
                around = [
                    self._promisable(evidence, i) for i in (index, index + 1)
                ]
            raise ValueError(
                f"{self} cannot be met: too many examples share one score. "
                f"Expected: a delegation rate within {near:.4f} below "
                f"{limit:.4f}. {what}: {around[0]:.4f} and "
                f"{around[1]:.4f}. Ask for one of these, or pass a "
                "larger `tolerance`."
            )

    def refusal(self, evidence):
        limit = self.max_rate_for(evidence)
        if limit <= 0:
            return (
                f"{self} cannot be promised: no number of examples shows a "
                "rate of 0. To delegate nothing, set the threshold to "
                "`numpy.finfo('float32').min`."
            )
        lowest = 1 - self.error ** (1 / evidence.trials)
        needed = math.ceil(math.log(self.error) / math.log1p(-limit))
        return (
            f"{self} cannot be promised: {evidence.trials} calibration "
            "examples are too few to tell a delegation rate below "
            f"{lowest:.4f} from none. Expected: at least {needed} examples. "
            "Collect more, or ask for a higher limit or a lower confidence."
        )

    def get_config(self):
        return {"tolerance": self.tolerance, **super().get_config()}

    def _promisable(self, evidence, index):
        """The lowest rate that the count of a candidate shows.

        Clopper and Pearson's upper limit, rounded up to what is printed.
        """
        count, trials = int(evidence.delegated[index]), evidence.trials
        if count == trials:
            return 1.0
        limit = stats.beta.ppf(1 - self.error, count + 1, trials - count)
        return math.ceil(1e4 * limit) / 1e4

    def _most(self, evidence):
        limit = self.max_rate_for(evidence)
        return most_allowed(evidence.trials, limit, self.error)
