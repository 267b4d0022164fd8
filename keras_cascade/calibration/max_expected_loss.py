"""Objective: a bounded mean loss of the cascade's answers."""

from typing import TYPE_CHECKING, Any

from keras_cascade.calibration.exact_tests import fixed_sequence_test
from keras_cascade.calibration.min_accuracy import accuracy_error_message
from keras_cascade.calibration.objective import (
    QualityObjective,
    attainable_loss,
)
from keras_cascade.calibration.quality_tests import (
    loss_error_message,
    loss_guaranteed,
)
from keras_cascade.utils.validation import check_number

if TYPE_CHECKING:
    import numpy as np

    from keras_cascade.calibration.calibration_sample import CalibrationSample


class MaxExpectedLoss(QualityObjective):
    """Lowest delegation rate with a bounded mean loss of the answers.

    `E[loss] <= max_loss` for a loss in [0, 1] per example, where kept
    examples have the student's and delegated ones the teacher's. The examples
    hold its complement, the quality `1 − loss`. For a cost per pair of
    classes see `MaxExpectedCost`.

    With a confidence it is guaranteed of new examples: a bet on the mean at
    each threshold, from delegating everything down (Learn Then Test, arXiv
    2110.01052; `keras_cascade.calibration.bounded_mean`), and the exact
    binomial test where every loss is 0 or 1. Testing stops at the first
    threshold that fails, which may be the first of all where the teacher's
    own loss is close to `max_loss`.

    Args:
        max_loss: float in [0, 1].
        confidence: float in (0, 1), or `None` (holds on the calibration
            examples). Defaults to `None`.

    Example:

    >>> import keras_cascade as kc
    >>> point = kc.calibration.fit_threshold(
    ...     scores=[0.1, 0.4, 0.6, 0.9],
    ...     student_correct=[0.5, 0.75, 0.9, 1.0],
    ...     teacher_correct=[0.9, 0.95, 1.0, 1.0],
    ...     objective=kc.MaxExpectedLoss(0.12),
    ...     loss_name="Hamming loss",
    ... )
    >>> print(point)
    Delegates 25.00 %, where the score is below 0.25.
    Hamming loss: 0.1125 (student 0.2125, teacher 0.0375) on 4 examples.
    Guaranteed of new examples: nothing.
    """

    quantity = "expected_loss"
    side = "at_most"
    limit = "max_loss"

    def __init__(self, max_loss: float, *, confidence: float | None = None):
        super().__init__(confidence)
        self.max_loss = check_number("max_loss", max_loss, 0.0, 1.0)
        if confidence is not None and max_loss <= 0:
            raise ValueError(
                "Expected `max_loss` above 0 with a confidence: no number of "
                f"examples shows that nothing is lost. Received: {max_loss!r}."
            )

    def meets(self, sample: "CalibrationSample") -> "np.ndarray":
        if self.confidence is None:
            return 1 - sample.curve.accuracy <= self.max_loss + 1e-12
        return fixed_sequence_test(
            loss_guaranteed(sample, self.max_loss, self.error)
        )

    def error_message(self, sample: "CalibrationSample") -> str:
        if self.confidence is None:
            return (
                f"{self} cannot be met. {attainable_loss(sample.curve)} "
                "Ask for more, or train a better teacher."
            )
        what = f"{self} cannot be guaranteed"
        if sample.is_fractional:
            return loss_error_message(what, sample, self.max_loss, self.error)
        return accuracy_error_message(
            what,
            int(sample.correct[-1]),
            sample.trials,
            1 - self.max_loss,
            self.error,
        )

    def get_config(self) -> dict[str, Any]:
        return {"max_loss": self.max_loss, **super().get_config()}
