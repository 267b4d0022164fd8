"""Examples sorted by score, the basis of every sweep of thresholds."""

import numpy as np
import numpy.typing as npt

from keras_cascade.utils.validation import check_qualities, check_weight


class SortedExamples:
    """Labelled examples sorted by score, and the thresholds between them.

    Candidates are the midpoints between adjacent distinct scores, never
    rounded, and the two ends: the type's lowest number delegates nothing, its
    highest everything. Tied scores can only be delegated together.

    Args:
        scores: float array `(examples,)`, higher = surer. Finite.
        student_correct: bool array `(examples,)`; or float array in [0, 1],
            the quality of each answer, 1 less its loss.
        teacher_correct: bool or float array `(examples,)`, likewise.
        sample_weight: optional float array `(examples,)`, non-negative.
            Defaults to `None`: every example counts the same.

    Attributes:
        order: int array `(examples,)`, index of each sorted example in the
            arguments.
        student, teacher: bool arrays, sorted; both float64 where one of them
            holds a fraction.
        is_fractional: bool, true where they are float64.
        weight: float64 array, sorted, or `None`.
        distinct: float array, the distinct scores, ascending.
        thresholds: float array `(distinct + 1,)`, one per candidate.

    Raises:
        ValueError: shapes differ, nothing to sort, NaN.
    """

    def __init__(
        self, scores, student_correct, teacher_correct, sample_weight=None
    ):
        scores, student, teacher, weight = checked_columns(
            scores, student_correct, teacher_correct, sample_weight
        )
        self.order = np.argsort(scores, kind="stable")
        scores = scores[self.order]
        self.student, self.teacher = student[self.order], teacher[self.order]
        self.is_fractional = student.dtype != bool
        self.weight = None if weight is None else weight[self.order]
        # Ends of runs of equal scores: only whole runs can be delegated.
        self._last_of_run = np.flatnonzero(
            np.append(scores[1:] != scores[:-1], True)
        )
        self.distinct = scores[self._last_of_run]
        self.thresholds = _candidates(self.distinct)

    def __len__(self):
        return len(self.order)

    def delegated(self, values):
        """Sum of `values` over delegated examples, for each candidate.

        Args:
            values: sorted array `(examples,)`, booleans or numbers.

        Returns:
            Array `(candidates,)`, of integers for booleans.
        """
        values = np.asarray(values)
        kind = np.int64 if values.dtype == bool else np.float64
        sums = np.cumsum(values, dtype=kind)[self._last_of_run]
        return np.concatenate([np.zeros(1, kind), sums])

    def kept(self, values):
        """Sum of `values` over kept examples, for each candidate."""
        sums = self.delegated(values)
        return sums[-1] - sums

    def candidate_of(self, thresholds):
        """Index of the candidate with the same decisions as each threshold."""
        return np.searchsorted(self.distinct, thresholds, side="left")


def _candidates(distinct):
    """Midpoints t with `lower < t <= upper`, in the scores' own precision.

    Where no number of that precision lies strictly between two neighbours,
    the upper one itself separates them: it is kept, the lower delegated.
    """
    limits = np.finfo(distinct.dtype)
    lower, upper = distinct[:-1], distinct[1:]
    middle = lower / 2 + upper / 2  # cannot overflow
    middle = np.where((middle > lower) & (middle <= upper), middle, upper)
    return np.concatenate([[limits.min], middle, [limits.max]]).astype(
        distinct.dtype
    )


def checked_columns(
    scores: npt.ArrayLike,
    student_correct: npt.ArrayLike,
    teacher_correct: npt.ArrayLike,
    sample_weight: npt.ArrayLike | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Returns the columns as checked arrays, or raises.

    Args:
        scores: float array `(examples,)`; other numbers become float64, so
            that a threshold between two of them exists.
        student_correct: bool array `(examples,)`, or float array in [0, 1].
        teacher_correct: bool array `(examples,)`, or float array in [0, 1].
        sample_weight: optional float array `(examples,)`. Defaults to `None`.

    Returns:
        Tuple of four arrays: the second and third both bool, where all of
        their values are 0 or 1, or both float64; the last `None` without
        weights.
    """
    scores = np.asarray(scores)
    if scores.dtype not in (np.float32, np.float64):
        scores = scores.astype("float64")
    student = np.asarray(student_correct)
    teacher = np.asarray(teacher_correct)
    weight = sample_weight
    if weight is not None:
        weight = np.asarray(weight, dtype="float64")
    shapes = [
        column.shape
        for column in (scores, student, teacher, weight)
        if column is not None
    ]
    if len(set(shapes)) != 1 or scores.ndim != 1:
        raise ValueError(
            "Expected scores, student_correct, teacher_correct and "
            "sample_weight to be one-dimensional and equally long. Received "
            f"shapes: {', '.join(map(str, shapes))}."
        )
    if scores.size == 0:
        raise ValueError("Expected at least one example. Received none.")
    # The type's largest number stands for "delegate everything".
    usable = np.abs(scores) < np.finfo(scores.dtype).max
    if not usable.all():
        raise ValueError(
            "Expected finite scores. Received NaN or infinity in "
            f"{int((~usable).sum())} of {scores.size} examples. "
            "Look for NaN in the inputs or in the student's weights."
        )
    return (
        scores,
        *check_qualities(student, teacher),
        None if weight is None else check_weight(weight),
    )
