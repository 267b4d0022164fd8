"""Areas under the ROC curve of a gate's score."""

import numpy as np
import numpy.typing as npt

from keras_cascade.errors import UndefinedMetricError
from keras_cascade.evaluation.sorted_examples import SortedExamples


def auroc_student_right(
    scores: npt.ArrayLike,
    student_correct: npt.ArrayLike,
    sample_weight: npt.ArrayLike | None = None,
) -> float:
    """AUROC of the score for examples that the student gets right.

    Undefined for qualities that are fractions, which are neither right nor
    wrong.

    Args:
        scores: float array `(examples,)`, higher = surer.
        student_correct: bool array `(examples,)`, or float array in [0, 1].
        sample_weight: optional float array `(examples,)`, non-negative.
            Defaults to `None`.

    Returns:
        Float in [0, 1]; 0.5 for a score that knows nothing. Ties count half.

    Raises:
        UndefinedMetricError: the student is always right, or always wrong,
            or its quality is a fraction.

    Example:

    >>> import keras_cascade as kc
    >>> kc.evaluation.auroc_student_right([0.9, 0.5, 0.1], [1, 0, 1])
    0.5
    """
    examples = SortedExamples(
        scores, student_correct, student_correct, sample_weight
    )
    if examples.is_fractional:
        raise UndefinedMetricError(
            "the student's quality is a fraction, neither right nor wrong"
        )
    return _auroc(
        examples,
        examples.student,
        sign=1,
        always="the student is right on every example",
        never="the student is wrong on every example",
    )


def auroc_delegating_helps(
    scores: npt.ArrayLike,
    student_correct: npt.ArrayLike,
    teacher_correct: npt.ArrayLike,
    sample_weight: npt.ArrayLike | None = None,
) -> float:
    """AUROC of the score for examples where delegating helps.

    Delegating helps where the teacher is right and the student wrong; with
    qualities that are fractions, where the teacher's is the higher one. A
    student can be unsure where the teacher is wrong too; delegating that
    costs and does not help.

    Args:
        scores: float array `(examples,)`, higher = surer.
        student_correct: bool array `(examples,)`, or float array in [0, 1].
        teacher_correct: bool array `(examples,)`, or float array in [0, 1].
        sample_weight: optional float array `(examples,)`, non-negative.
            Defaults to `None`.

    Returns:
        Float in [0, 1]; 0.5 for a score that knows nothing. Ties count half.

    Raises:
        UndefinedMetricError: delegating helps nowhere, or everywhere.

    Example:

    >>> import keras_cascade as kc
    >>> kc.evaluation.auroc_delegating_helps(
    ...     [0.9, 0.5, 0.1], [1, 0, 0], [1, 1, 0]
    ... )
    0.5
    """
    examples = SortedExamples(
        scores, student_correct, teacher_correct, sample_weight
    )
    return _auroc(
        examples,
        examples.teacher > examples.student,
        sign=-1,
        always="delegating helps on every example",
        never="delegating helps on no example",
    )


def _auroc(examples, positive, sign, always, never):
    from sklearn.metrics import roc_auc_score

    rows = len(examples)
    weight = np.ones(rows) if examples.weight is None else examples.weight
    counts = weight > 0
    positive, weight = positive[counts], weight[counts]
    if positive.all() or not positive.any():
        raise UndefinedMetricError(always if positive.all() else never)
    # Only the order matters, and differences of ranks cannot overflow.
    ranks = np.repeat(
        np.arange(len(examples.distinct)),
        np.diff(examples.delegated(np.ones(rows, dtype=bool))),
    )[counts]
    return float(roc_auc_score(positive, sign * ranks, sample_weight=weight))
