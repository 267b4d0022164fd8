"""Measurement of a cascade at one threshold."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from keras_cascade.calibration.operating_point import OperatingPoint
from keras_cascade.evaluation.delegated_at import delegated_at
from keras_cascade.evaluation.sorted_examples import checked_columns

if TYPE_CHECKING:
    from keras_cascade.evaluation.costs import Costs


def measure_threshold(
    scores: npt.ArrayLike,
    student_correct: npt.ArrayLike,
    teacher_correct: npt.ArrayLike,
    threshold: float,
    sample_weight: npt.ArrayLike | None = None,
    costs: "Costs | None" = None,
    objective: dict[str, Any] | None = None,
) -> OperatingPoint:
    """Measures accuracy, delegation rate and cost at one threshold.

    Args:
        scores: float array `(examples,)`, higher = the student is surer.
        student_correct: bool array `(examples,)`.
        teacher_correct: bool array `(examples,)`.
        threshold: float. Delegate when `score < threshold`.
        sample_weight: optional float array `(examples,)`, non-negative.
            Defaults to `None`.
        costs: optional `keras_cascade.evaluation.Costs`. Defaults to `None`.
        objective: optional dict, the serialized objective that chose the
            threshold. Defaults to `None`.

    Returns:
        `OperatingPoint`.

    Example:

    >>> import keras_cascade as kc
    >>> point = kc.calibration.measure_threshold(
    ...     scores=[0.1, 0.5, 0.9],
    ...     student_correct=[False, True, True],
    ...     teacher_correct=[True, True, True],
    ...     threshold=0.3,
    ... )
    >>> point.accuracy
    1.0
    """
    scores, student, teacher, sample_weight = checked_columns(
        scores, student_correct, teacher_correct, sample_weight
    )
    delegated = delegated_at(scores, threshold)

    def share(values):
        return float(np.average(values, weights=sample_weight))

    rate = share(delegated)
    accuracy = share(np.where(delegated, teacher, student))
    teacher_accuracy = share(teacher)
    return OperatingPoint(
        threshold=float(threshold),
        delegation_rate=rate,
        accuracy=accuracy,
        student_accuracy=share(student),
        teacher_accuracy=teacher_accuracy,
        accuracy_drop=teacher_accuracy - accuracy,
        accuracy_drop_bound=None,
        objective=objective,
        confidence=None,
        examples=len(scores),
        amortized_cost=None if costs is None else costs.amortized(rate),
    )
