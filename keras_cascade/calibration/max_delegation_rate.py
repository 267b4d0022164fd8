"""Spend a delegation budget: at most this share reaches the teacher."""

import numpy as np

from keras_cascade.calibration.objective import Objective, check_number


class MaxDelegationRate(Objective):
    """Delegates as much as a budget allows, and no more.

    Chooses the highest attainable delegation rate that is at most
    `max_rate`. Tied scores move together, so some rates do not exist: when
    the nearest one below is further away than `tolerance`, the objective is
    refused rather than approximated silently.

    Args:
        max_rate: float in [0, 1].
        tolerance: float in [0, 1], how far below `max_rate` is near enough;
            one calibration example always is. Defaults to `0.01`.

    Example:

    >>> import keras_cascade as kc
    >>> kc.MaxDelegationRate(0.2)
    MaxDelegationRate(0.2, 0.01)
    """

    def __init__(self, max_rate, tolerance=0.01):
        self.max_rate = check_number("max_rate", max_rate, 0.0, 1.0)
        self.tolerance = check_number("tolerance", tolerance, 0.0, 1.0)

    def choose(self, curve):
        rates = curve.delegation_rate
        # Rates are sums of weights: allow for their last bit.
        below = np.flatnonzero(rates <= self.max_rate + 1e-12)[-1]
        near = max(self.tolerance, 1.0 / curve.examples)
        if self.max_rate - rates[below] > near + 1e-12:
            raise ValueError(
                f"{self} cannot be met: too many examples share one score. "
                f"Expected: a delegation rate within {near:.4f} below "
                f"{self.max_rate:.4f}. Attainable around it: "
                f"{rates[below]:.4f} and {rates[below + 1]:.4f}. Ask for one "
                "of these, or pass a larger `tolerance`."
            )
        return int(below)

    def get_config(self):
        return {"max_rate": self.max_rate, "tolerance": self.tolerance}
