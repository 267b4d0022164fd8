"""Objective: a bounded accuracy drop against the teacher."""

from typing import TYPE_CHECKING, Any

from keras_cascade.calibration.objective import (
    QualityObjective,
    attainable_accuracy,
)
from keras_cascade.calibration.quality_tests import (
    drop_error_message,
    drop_guaranteed,
)
from keras_cascade.utils.validation import check_number

if TYPE_CHECKING:
    import numpy as np

    from keras_cascade.calibration.calibration_sample import CalibrationSample


class MaxAccuracyDrop(QualityObjective):
    """Lowest delegation rate with a bounded accuracy drop.

    Met where `teacher accuracy − cascade accuracy <= max_drop`. Delegating
    everything always meets `max_drop >= 0`. With a confidence the drop is
    guaranteed of new examples, by an exact test of each threshold
    (`keras_cascade.calibration.exact_tests.drop_shown`) from the safest down;
    of qualities that are fractions, by a bet on the mean of `teacher quality −
    student quality` of the kept examples
    (`keras_cascade.calibration.bounded_mean`).

    Args:
        max_drop: float in [-1, 1]. A negative drop asks the cascade to be
            better than the teacher; it cannot be guaranteed.
        confidence: float in (0, 1), or `None` (holds on the calibration
            examples). Defaults to `None`.

    Example:

    >>> import keras_cascade as kc
    >>> kc.MaxAccuracyDrop(0.01, confidence=0.95)
    MaxAccuracyDrop(0.01, confidence=0.95)
    """

    quantity = "accuracy_drop"
    side = "at_most"
    limit = "max_drop"

    def __init__(self, max_drop: float, *, confidence: float | None = None):
        super().__init__(confidence)
        self.max_drop = check_number("max_drop", max_drop, -1.0, 1.0)
        if confidence is not None and max_drop <= 0:
            raise ValueError(
                "Expected `max_drop` above 0 with a confidence: no number of "
                "examples shows that nothing is lost. Received: "
                f"{max_drop!r}."
            )

    @property
    def certain(self) -> str | None:  # type: ignore[override]
        """`"delegate"`, where a drop of 0 is within the limit."""
        return "delegate" if self.max_drop >= 0 else None

    def meets(self, sample: "CalibrationSample") -> "np.ndarray":
        if self.confidence is None:
            curve = sample.curve
            drop = curve.teacher_accuracy - curve.accuracy
            return drop <= self.max_drop + 1e-12
        return drop_guaranteed(sample, self.max_drop, self.error)

    def error_message(self, sample: "CalibrationSample") -> str:
        if self.confidence is None:
            return (
                f"{self} cannot be met. {attainable_accuracy(sample.curve)} "
                "Ask for a larger drop."
            )
        return drop_error_message(self, sample, self.max_drop, "drop")

    def get_config(self) -> dict[str, Any]:
        return {"max_drop": self.max_drop, **super().get_config()}
