"""Objective: a bounded increase of the mean loss against the teacher."""

from typing import TYPE_CHECKING, Any

from keras_cascade.calibration.objective import (
    QualityObjective,
    attainable_loss,
)
from keras_cascade.calibration.quality_tests import (
    drop_error_message,
    drop_guaranteed,
)
from keras_cascade.utils.validation import check_number

if TYPE_CHECKING:
    import numpy as np

    from keras_cascade.calibration.calibration_sample import CalibrationSample


class MaxLossIncrease(QualityObjective):
    """Lowest delegation rate with a bounded increase of the mean loss.

    Met where `cascade loss − teacher loss <= max_increase`, for a loss in
    [0, 1] per example: the Hamming loss, the share of labels missed, an error
    divided by its bound. The examples hold its complement, the quality
    `1 − loss`. It is `MaxAccuracyDrop` in the words of losses; delegating
    everything always meets `max_increase >= 0`.

    With a confidence the increase is guaranteed of new examples: a bet on its
    mean at each threshold, from the safest down
    (`keras_cascade.calibration.bounded_mean`), and the exact test of counts
    where every loss is 0 or 1.

    Args:
        max_increase: float in [-1, 1], in units of the loss. A negative
            increase asks the cascade to be better than the teacher; it cannot
            be guaranteed.
        confidence: float in (0, 1), or `None` (holds on the calibration
            examples). Defaults to `None`.

    Example:

    >>> import keras_cascade as kc
    >>> point = kc.calibration.fit_threshold(
    ...     scores=[0.1, 0.4, 0.6, 0.9],
    ...     student_correct=[0.5, 0.75, 0.9, 1.0],
    ...     teacher_correct=[0.9, 0.95, 1.0, 1.0],
    ...     objective=kc.MaxLossIncrease(0.05),
    ... )
    >>> point.delegation_rate, round(point.accuracy_drop, 3)
    (0.5, 0.025)
    """

    quantity = "loss_increase"
    side = "at_most"
    limit = "max_increase"

    def __init__(self, max_increase: float, *, confidence: float | None = None):
        super().__init__(confidence)
        self.max_increase = check_number(
            "max_increase", max_increase, -1.0, 1.0
        )
        if confidence is not None and max_increase <= 0:
            raise ValueError(
                "Expected `max_increase` above 0 with a confidence: no number "
                "of examples shows that nothing is lost. Received: "
                f"{max_increase!r}."
            )

    @property
    def certain(self) -> str | None:  # type: ignore[override]
        """`"delegate"`, where an increase of 0 is within the limit."""
        return "delegate" if self.max_increase >= 0 else None

    def meets(self, sample: "CalibrationSample") -> "np.ndarray":
        if self.confidence is None:
            curve = sample.curve
            increase = curve.teacher_accuracy - curve.accuracy
            return increase <= self.max_increase + 1e-12
        return drop_guaranteed(sample, self.max_increase, self.error)

    def error_message(self, sample: "CalibrationSample") -> str:
        if self.confidence is None:
            return (
                f"{self} cannot be met. {attainable_loss(sample.curve)} "
                "Ask for a larger increase."
            )
        return drop_error_message(self, sample, self.max_increase, "increase")

    def get_config(self) -> dict[str, Any]:
        return {"max_increase": self.max_increase, **super().get_config()}
