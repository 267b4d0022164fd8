"""Areas under the deferral curve, and the deferral score."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from keras_cascade.errors import UndefinedMetricError
from keras_cascade.evaluation.deferral_curve import curve_of, deferral_curve
from keras_cascade.evaluation.sorted_examples import SortedExamples
from keras_cascade.utils.validation import check_qualities

if TYPE_CHECKING:
    from keras_cascade.evaluation.deferral_curve import DeferralCurve

NO_BETTER_ORDER = (
    "delegating changes every example in the same way, so that no order of "
    "delegation is better than another"
)


def deferral_area(curve: "DeferralCurve") -> float:
    """Area under the deferral curve, from 0 to 1.

    Straight lines join the candidates: tied examples count as delegated in
    random order. It is the cascade's accuracy averaged over all delegation
    rates.

    Args:
        curve: `DeferralCurve`.

    Returns:
        Float in [0, 1].

    Example:

    >>> import keras_cascade as kc
    >>> curve = kc.evaluation.deferral_curve(
    ...     [0.1, 0.5, 0.9], [False, True, True], [True, True, True]
    ... )
    >>> round(kc.evaluation.deferral_area(curve), 4)  # (5/6 + 1 + 1) / 3
    0.9444
    """
    from sklearn.metrics import auc

    return auc(curve.delegation_rate, curve.accuracy)


def oracle_curve(
    student_correct: npt.ArrayLike,
    teacher_correct: npt.ArrayLike,
    sample_weight: npt.ArrayLike | None = None,
) -> "DeferralCurve":
    """Deferral curve of an oracle gate, the upper limit of every gate.

    It knows which model is right, and delegates first where only the teacher
    is, then where delegating makes no difference, last where only the student
    is. With qualities that are fractions it delegates by how much better the
    teacher's is.

    Args:
        student_correct: bool array `(examples,)`, or float array in [0, 1].
        teacher_correct: bool array `(examples,)`, or float array in [0, 1].
        sample_weight: optional float array `(examples,)`, non-negative.
            Defaults to `None`.

    Returns:
        `DeferralCurve` with at most four candidates; with fractions, one
        more than there are distinct differences.

    Example:

    >>> import keras_cascade as kc
    >>> curve = kc.evaluation.oracle_curve(
    ...     [False, True, True, False], [True, True, False, False]
    ... )
    >>> curve.delegation_rate.tolist(), curve.accuracy.tolist()
    ([0.0, 0.25, 0.75, 1.0], [0.5, 0.75, 0.75, 0.5])
    """
    rows = np.size(student_correct)
    student, teacher = check_qualities(student_correct, teacher_correct, rows)
    surer = student.astype("float64") - teacher
    return deferral_curve(surer, student, teacher, sample_weight)


def deferral_score(
    scores: npt.ArrayLike,
    student_correct: npt.ArrayLike,
    teacher_correct: npt.ArrayLike,
    sample_weight: npt.ArrayLike | None = None,
) -> float:
    """Normalised area under the deferral curve: 0 random, 1 ideal.

    `(area - area of random) / (area of ideal - area of random)`: 0 for
    delegating at random, 1 for an oracle, negative for
    a gate that is worse than random.

    Args:
        scores: float array `(examples,)`, higher = surer.
        student_correct: bool array `(examples,)`, or float array in [0, 1].
        teacher_correct: bool array `(examples,)`, or float array in [0, 1].
        sample_weight: optional float array `(examples,)`, non-negative.
            Defaults to `None`.

    Returns:
        Float in [-1, 1].

    Raises:
        UndefinedMetricError: delegating changes every example in the same
            way, so that no order of delegation is better than another.

    Example:

    >>> import keras_cascade as kc
    >>> kc.evaluation.deferral_score(
    ...     [0.1, 0.5, 0.9], [False, True, True], [True, True, True]
    ... )
    1.0
    """
    examples = SortedExamples(
        scores, student_correct, teacher_correct, sample_weight
    )
    counts = slice(None) if examples.weight is None else examples.weight > 0
    gain = examples.teacher.astype("float64") - examples.student
    if np.ptp(gain[counts]) == 0:
        raise UndefinedMetricError(NO_BETTER_ORDER)
    curve = curve_of(examples)
    ideal = oracle_curve(examples.student, examples.teacher, examples.weight)
    at_random = random_area(curve)
    return (deferral_area(curve) - at_random) / (
        deferral_area(ideal) - at_random
    )


def random_area(curve: "DeferralCurve") -> float:
    """Area under the deferral curve of random delegation.

    Args:
        curve: `DeferralCurve`.

    Example:

    >>> import keras_cascade as kc
    >>> curve = kc.evaluation.deferral_curve([0.1, 0.5], [0, 0], [1, 0])
    >>> kc.evaluation.random_area(curve)
    0.25
    """
    return (curve.student_accuracy + curve.teacher_accuracy) / 2
