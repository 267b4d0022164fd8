"""How good student and teacher are on what the student keeps."""

import dataclasses

import numpy as np

from keras_cascade.evaluation.sorted_examples import SortedExamples


@dataclasses.dataclass(frozen=True, eq=False)
class KeptAccuracy:
    """Accuracy on the kept examples, for each threshold that keeps any.

    Attributes:
        thresholds: float array, ascending, from keeping everything.
        fraction_kept: float array in (0, 1], descending.
        student_accuracy: float array, of the student on what it keeps.
        teacher_accuracy: float array, of the teacher on the same examples.
    """

    thresholds: np.ndarray
    fraction_kept: np.ndarray
    student_accuracy: np.ndarray
    teacher_accuracy: np.ndarray


def kept_accuracy(scores, student_correct, teacher_correct, sample_weight=None):
    """In-domain accuracy against the fraction of examples that is in-domain.

    Source: Figure 7 of arXiv 2110.10305. Thresholds are the deferral curve's
    candidates; those that keep nothing have no accuracy and are left out.

    Args:
        scores: float array `(examples,)`, higher = surer.
        student_correct: bool array `(examples,)`.
        teacher_correct: bool array `(examples,)`.
        sample_weight: optional float array `(examples,)`, non-negative.
            Defaults to `None`.

    Returns:
        `KeptAccuracy`.

    Example:

    >>> import keras_cascade as kc
    >>> kept = kc.evaluation.kept_accuracy(
    ...     [0.1, 0.9], [False, True], [True, True]
    ... )
    >>> kept.fraction_kept.tolist(), kept.student_accuracy.tolist()
    ([1.0, 0.5], [0.5, 1.0])
    """
    examples = SortedExamples(
        scores, student_correct, teacher_correct, sample_weight
    )
    rows = len(examples)
    weight = np.ones(rows) if examples.weight is None else examples.weight
    starts = examples.delegated(np.ones(rows, dtype=bool))[:-1]

    def kept(values):
        # Summed from the surest down: no difference of large sums.
        return np.cumsum(values[::-1])[::-1][starts]

    total = kept(weight)
    some = total > 0
    return KeptAccuracy(
        thresholds=examples.thresholds[:-1][some],
        fraction_kept=total[some] / total[0],
        student_accuracy=kept(weight * examples.student)[some] / total[some],
        teacher_accuracy=kept(weight * examples.teacher)[some] / total[some],
    )
