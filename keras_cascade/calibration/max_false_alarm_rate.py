"""Objective: a bounded false-alarm rate of one class."""

from typing import TYPE_CHECKING

import numpy as np

from keras_cascade.calibration.class_rate import ClassEvents, ClassRate

if TYPE_CHECKING:
    from keras_cascade.calibration.calibration_sample import CalibrationSample


class MaxFalseAlarmRate(ClassRate):
    """Lowest delegation rate with a bounded false-alarm rate of one class.

    `false-alarm rate = P(the cascade answers the class | right label is
    another)`, the false positive rate, where kept examples have the
    student's answer and delegated ones the teacher's.

    With a confidence, each threshold is tested by the exact binomial law of
    the calibration examples of the other classes, from delegating everything
    down (Learn Then Test, arXiv 2110.01052).

    Args:
        class_: int or str, the class by index or by name.
        max_rate: float in [0, 1].
        confidence: float in (0, 1), or `None` (holds on the calibration
            examples). Defaults to `None`.

    Example:

    >>> import keras_cascade as kc
    >>> kc.MaxFalseAlarmRate("fire", 0.001, confidence=0.95)
    MaxFalseAlarmRate('fire', 0.001, confidence=0.95)
    """

    quantity = "false_alarm_rate"
    side = "at_most"
    limit = "max_rate"
    counted_as = "examples of other classes than {!r} answered so"

    def __init__(
        self,
        class_: int | str,
        max_rate: float,
        *,
        confidence: float | None = None,
    ):
        super().__init__(class_, max_rate, confidence)

    def events(
        self, sample: "CalibrationSample", is_class: np.ndarray
    ) -> ClassEvents:
        student, teacher = sample.answers_of(self, self.class_)
        others = ~is_class
        return ClassEvents(others, student & others, others, teacher & others)
