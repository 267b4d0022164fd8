"""Objective: a least precision of one class."""

from typing import TYPE_CHECKING

import numpy as np

from keras_cascade.calibration.class_rate import ClassEvents, ClassRate

if TYPE_CHECKING:
    from keras_cascade.calibration.calibration_sample import CalibrationSample


class MinPrecision(ClassRate):
    """Lowest delegation rate with a least precision of one class.

    `precision = P(right label is the class | the cascade answers the
    class)`, where kept examples have the student's answer and delegated ones
    the teacher's. A threshold at which the cascade never answers the class
    does not meet it.

    With a confidence, given that N calibration examples are answered the
    class, the number of right ones among them is binomial: each threshold is
    tested by the exact binomial law given its own N, from delegating
    everything down (Learn Then Test, arXiv 2110.01052). With weights the
    examples are drawn by rejection first, as for every exact test here.

    Args:
        class_: int or str, the class by index or by name.
        min_precision: float in [0, 1].
        confidence: float in (0, 1), or `None` (holds on the calibration
            examples). Defaults to `None`.

    Example:

    >>> import keras_cascade as kc
    >>> kc.MinPrecision("spam", 0.95, confidence=0.95)
    MinPrecision('spam', 0.95, confidence=0.95)
    """

    quantity = "precision"
    side = "at_least"
    limit = "min_precision"
    counted_as = "answers of class {!r} right"
    fixed_counts = False

    def __init__(
        self,
        class_: int | str,
        min_precision: float,
        *,
        confidence: float | None = None,
    ):
        super().__init__(class_, min_precision, confidence)

    def events(
        self, sample: "CalibrationSample", is_class: np.ndarray
    ) -> ClassEvents:
        student, teacher = sample.answers_of(self, self.class_)
        return ClassEvents(
            student, student & is_class, teacher, teacher & is_class
        )
