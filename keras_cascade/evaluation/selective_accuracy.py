"""Selective accuracy: accuracy on the examples that the gate accepts."""

import dataclasses

import numpy as np
import numpy.typing as npt

from keras_cascade.evaluation.sorted_examples import SortedExamples


@dataclasses.dataclass(frozen=True, eq=False)
class SelectiveAccuracy:
    """Accuracy on the accepted examples, for each threshold that accepts any.

    Attributes:
        thresholds: float array, ascending; the first accepts everything.
        coverage: float array in (0, 1], descending, the share of examples that
            the student answers.
        student_accuracy: float array, of the student on accepted examples.
        teacher_accuracy: float array, of the teacher on the same examples.
    """

    thresholds: np.ndarray
    coverage: np.ndarray
    student_accuracy: np.ndarray
    teacher_accuracy: np.ndarray


def selective_accuracy(
    scores: npt.ArrayLike,
    student_correct: npt.ArrayLike,
    teacher_correct: npt.ArrayLike,
    sample_weight: npt.ArrayLike | None = None,
) -> SelectiveAccuracy:
    """Accuracy on accepted examples against coverage, at every threshold.

    Source: Figure 7 of arXiv 2110.10305. Thresholds are the deferral curve's
    candidates; those that accept nothing have no accuracy and are left out.

    Args:
        scores: float array `(examples,)`, higher = surer.
        student_correct: bool array `(examples,)`, or float array in [0, 1].
        teacher_correct: bool array `(examples,)`, or float array in [0, 1].
        sample_weight: optional float array `(examples,)`, non-negative.
            Defaults to `None`.

    Returns:
        `SelectiveAccuracy`.

    Example:

    >>> import keras_cascade as kc
    >>> selective = kc.evaluation.selective_accuracy(
    ...     [0.1, 0.9], [False, True], [True, True]
    ... )
    >>> selective.coverage.tolist(), selective.student_accuracy.tolist()
    ([1.0, 0.5], [0.5, 1.0])
    """
    examples = SortedExamples(
        scores, student_correct, teacher_correct, sample_weight
    )
    rows = len(examples)
    weight = np.ones(rows) if examples.weight is None else examples.weight
    starts = examples.delegated(np.ones(rows, dtype=bool))[:-1]

    def accepted(values):
        # Summed from the surest down: a difference of large sums would cancel.
        return np.cumsum(values[::-1])[::-1][starts]

    total = accepted(weight)
    some = total > 0
    return SelectiveAccuracy(
        thresholds=examples.thresholds[:-1][some],
        coverage=total[some] / total[0],
        student_accuracy=accepted(weight * examples.student)[some]
        / total[some],
        teacher_accuracy=accepted(weight * examples.teacher)[some]
        / total[some],
    )
