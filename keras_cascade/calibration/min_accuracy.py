"""Objective: a least accuracy of the cascade."""

import math
from typing import TYPE_CHECKING, Any

from keras_cascade.calibration.exact_tests import (
    fixed_sequence_test,
    least_needed,
)
from keras_cascade.calibration.objective import (
    CHOSEN_AFTERWARDS,
    NONE_COUNTED,
    QualityObjective,
    attainable_accuracy,
    attainable_limit,
)
from keras_cascade.calibration.quality_tests import (
    loss_error_message,
    loss_guaranteed,
)
from keras_cascade.utils.validation import check_number

if TYPE_CHECKING:
    import numpy as np

    from keras_cascade.calibration.calibration_sample import CalibrationSample


class MinAccuracy(QualityObjective):
    """Lowest delegation rate with a least accuracy of the cascade.

    With a confidence the accuracy is guaranteed of new examples: an exact
    binomial test of each threshold, from delegating everything down; a bet on
    the mean where qualities are fractions
    (`keras_cascade.calibration.bounded_mean`). The
    accuracy need not rise with the delegation rate; testing stops at the
    first threshold that fails. There may be none that passes, even when the
    cascade is good enough on the calibration examples.

    Args:
        min_accuracy: float in [0, 1].
        confidence: float in (0, 1), or `None` (holds on the calibration
            examples). Defaults to `None`.

    Example:

    >>> import keras_cascade as kc
    >>> kc.MinAccuracy(0.95)
    MinAccuracy(0.95)
    """

    quantity = "accuracy"
    side = "at_least"
    limit = "min_accuracy"

    def __init__(self, min_accuracy: float, *, confidence: float | None = None):
        super().__init__(confidence)
        self.min_accuracy = check_number("min_accuracy", min_accuracy, 0.0, 1.0)

    def meets(self, sample: "CalibrationSample") -> "np.ndarray":
        if self.confidence is None:
            return sample.curve.accuracy >= self.min_accuracy - 1e-12
        if sample.is_fractional:
            limit = 1 - self.min_accuracy
            return fixed_sequence_test(
                loss_guaranteed(sample, limit, self.error)
            )
        needed = least_needed(sample.trials, self.min_accuracy, self.error)
        return fixed_sequence_test(sample.correct >= needed)

    def error_message(self, sample: "CalibrationSample") -> str:
        if self.confidence is None:
            return (
                f"{self} cannot be met. {attainable_accuracy(sample.curve)} "
                "Ask for less, or train a better teacher."
            )
        what = f"{self} cannot be guaranteed"
        if sample.is_fractional:
            limit = 1 - self.min_accuracy
            return loss_error_message(what, sample, limit, self.error)
        return accuracy_error_message(
            what,
            int(sample.correct[-1]),
            sample.trials,
            self.min_accuracy,
            self.error,
        )

    def get_config(self) -> dict[str, Any]:
        return {"min_accuracy": self.min_accuracy, **super().get_config()}


def accuracy_error_message(what, correct, trials, floor, error):
    """Error message where delegating everything does not show the accuracy.

    Args:
        what: str, the beginning of the message.
        correct: int, number of examples that the teacher gets right.
        trials: int, number of examples.
        floor: float, the required accuracy.
        error: float in (0, 1).
    """
    if not trials:
        return f"{what}: {NONE_COUNTED}"
    accuracy = correct / trials
    message = (
        f"{what}: of {trials} calibration examples the teacher gets "
        f"{accuracy:.4f} right, which shows an accuracy of at least "
        f"{attainable_limit(correct, trials, error):.4f}. "
    )
    if accuracy <= floor:
        return (
            f"{message}Expected: a teacher above {floor:.4f}. Ask for less, "
            f"or train a better teacher. {CHOSEN_AFTERWARDS}"
        )
    needed = _examples_needed(accuracy, floor, error)
    return (
        f"{message}Expected: about {needed} examples, for a teacher this "
        "good. Collect more, or ask for less accuracy or confidence. "
        f"{CHOSEN_AFTERWARDS}"
    )


def _examples_needed(accuracy, floor, error):
    """Number of examples from which such an accuracy shows the floor."""

    def shown(trials):
        # Counts are whole: one fewer, so that a few more examples are enough
        # as well.
        right = math.floor(accuracy * trials) - 1
        return right >= least_needed(trials, floor, error)

    high = 1
    while not shown(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        if shown(middle):
            high = middle
        else:
            low = middle
    return high
