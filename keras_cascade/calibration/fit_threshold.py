"""Threshold search on plain arrays."""

from keras_cascade.calibration.measure_threshold import measure_threshold
from keras_cascade.calibration.objective import Objective
from keras_cascade.evaluation.deferral_curve import deferral_curve


def fit_threshold(
    scores,
    student_correct,
    teacher_correct,
    objective,
    sample_weight=None,
    costs=None,
):
    """Finds the threshold that meets an objective on calibration examples.

    The examples must have been used neither to train nor will be used to
    report: a threshold looks best on the data that chose it.

    Args:
        scores: float array `(examples,)`, higher = the student is surer.
        student_correct: bool array `(examples,)`.
        teacher_correct: bool array `(examples,)`.
        objective: `Objective`.
        sample_weight: optional float array `(examples,)`, non-negative.
            Defaults to `None`.
        costs: optional `keras_cascade.evaluation.Costs`. Defaults to `None`.

    Returns:
        `OperatingPoint`. Its threshold is exact in the scores' precision:
        float32 scores give a float32 threshold.

    Raises:
        ValueError: bad arrays, or no threshold meets the objective; the
            message says what is attainable.

    Example:

    >>> import keras_cascade as kc
    >>> point = kc.calibration.fit_threshold(
    ...     scores=[0.1, 0.5, 0.9],
    ...     student_correct=[False, True, True],
    ...     teacher_correct=[True, True, True],
    ...     objective=kc.MinAccuracy(1.0),
    ... )
    >>> round(point.threshold, 6), round(point.delegation_rate, 3)
    (0.3, 0.333)
    """
    if not isinstance(objective, Objective):
        raise ValueError(
            "Expected an objective, such as "
            "`keras_cascade.MaxAccuracyDrop(0.01)`. Received: "
            f"{objective!r}."
        )
    curve = deferral_curve(
        scores, student_correct, teacher_correct, sample_weight
    )
    threshold = float(curve.thresholds[objective.choose(curve)])
    return measure_threshold(
        scores,
        student_correct,
        teacher_correct,
        threshold,
        sample_weight,
        costs,
        objective.describe(),
    )
