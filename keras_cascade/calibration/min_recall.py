"""Objective: a least recall of one class."""

from typing import TYPE_CHECKING

import numpy as np

from keras_cascade.calibration.class_rate import ClassEvents, ClassRate

if TYPE_CHECKING:
    from keras_cascade.calibration.calibration_sample import CalibrationSample


class MinRecall(ClassRate):
    """Lowest delegation rate with a least recall of one class.

    `recall = P(the cascade answers the class | right label is the class)`,
    where kept examples have the student's answer and delegated ones the
    teacher's.

    With a confidence, each threshold is tested by the exact binomial law of
    the calibration examples of the class, from delegating everything down
    (Learn Then Test, arXiv 2110.01052). With weights only those of the class
    matter, so that a traffic mix of classes costs no example.

    Args:
        class_: int or str, the class by index or by name.
        min_recall: float in [0, 1].
        confidence: float in (0, 1), or `None` (holds on the calibration
            examples). Defaults to `None`.

    Example:

    >>> import keras_cascade as kc
    >>> kc.MinRecall(1, 0.9)
    MinRecall(1, 0.9)
    """

    quantity = "recall"
    side = "at_least"
    limit = "min_recall"
    counted_as = "examples of class {!r} answered so"

    def __init__(
        self,
        class_: int | str,
        min_recall: float,
        *,
        confidence: float | None = None,
    ):
        super().__init__(class_, min_recall, confidence)

    def events(
        self, sample: "CalibrationSample", is_class: np.ndarray
    ) -> ClassEvents:
        student, teacher = sample.answers_of(self, self.class_)
        return ClassEvents(
            is_class, student & is_class, is_class, teacher & is_class
        )
