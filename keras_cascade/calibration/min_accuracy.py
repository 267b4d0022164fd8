"""At least this accuracy, as cheaply as possible."""

import numpy as np

from keras_cascade.calibration.objective import (
    Objective,
    attainable_accuracy,
    check_number,
)


class MinAccuracy(Objective):
    """The least delegation at which the cascade is accurate enough.

    Args:
        min_accuracy: float in [0, 1].

    Example:

    >>> import keras_cascade as kc
    >>> kc.MinAccuracy(0.95)
    MinAccuracy(0.95)
    """

    def __init__(self, min_accuracy):
        self.min_accuracy = check_number("min_accuracy", min_accuracy, 0.0, 1.0)

    def choose(self, curve):
        met = np.flatnonzero(curve.accuracy >= self.min_accuracy - 1e-12)
        if met.size == 0:
            raise ValueError(
                f"{self} cannot be met. {attainable_accuracy(curve)} Ask for "
                "less, or train a better teacher."
            )
        return int(met[0])

    def get_config(self):
        return {"min_accuracy": self.min_accuracy}
