"""Almost as accurate as the teacher, as cheaply as possible."""

import numpy as np

from keras_cascade.calibration.objective import (
    Objective,
    attainable_accuracy,
    check_number,
)


class MaxAccuracyDrop(Objective):
    """The least delegation at which the cascade is near the teacher.

    Met where `teacher accuracy − cascade accuracy <= max_drop`. Delegating
    everything always meets `max_drop >= 0`.

    Args:
        max_drop: float in [-1, 1]. A negative drop asks the cascade to be
            better than the teacher.

    Example:

    >>> import keras_cascade as kc
    >>> kc.MaxAccuracyDrop(0.01)
    MaxAccuracyDrop(0.01)
    """

    def __init__(self, max_drop):
        self.max_drop = check_number("max_drop", max_drop, -1.0, 1.0)

    def choose(self, curve):
        drop = curve.teacher_accuracy - curve.accuracy
        met = np.flatnonzero(drop <= self.max_drop + 1e-12)
        if met.size == 0:
            raise ValueError(
                f"{self} cannot be met. {attainable_accuracy(curve)} Ask for "
                "a larger drop."
            )
        return int(met[0])

    def get_config(self):
        return {"max_drop": self.max_drop}
