"""The deferral curve: cascade accuracy against delegation rate."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class DeferralCurve:
    """Every distinct threshold with what the cascade does there.

    All arrays have one entry a candidate threshold, from delegating nothing
    to delegating everything.

    Attributes:
        thresholds: float array, ascending, in the scores' own precision.
        delegation_rate: float array in [0, 1], ascending.
        accuracy: float array in [0, 1], of the cascade.
        student_accuracy: float, at no delegation.
        teacher_accuracy: float, at full delegation.
        examples: int.
    """

    thresholds: np.ndarray
    delegation_rate: np.ndarray
    accuracy: np.ndarray
    student_accuracy: float
    teacher_accuracy: float
    examples: int

    def accuracy_at(self, rate):
        """Cascade accuracy at the highest attainable rate up to `rate`.

        Args:
            rate: float in [0, 1].
        """
        place = np.searchsorted(self.delegation_rate, rate, side="right") - 1
        return float(self.accuracy[place])

    def random_accuracy(self):
        """Accuracy of delegating the same share at random: a straight line."""
        rate = self.delegation_rate
        return (1 - rate) * self.student_accuracy + rate * self.teacher_accuracy


def deferral_curve(
    scores, student_correct, teacher_correct, sample_weight=None
):
    """Sweeps every threshold that makes a difference.

    `accuracy = P(keep ∧ student right) + P(delegate ∧ teacher right)`.

    Candidates are the midpoints between adjacent distinct scores, never
    rounded, and the two ends: the type's lowest number delegates nothing, its
    highest everything.

    Args:
        scores: float array `(examples,)`, higher = surer. No NaN.
        student_correct: bool array `(examples,)`.
        teacher_correct: bool array `(examples,)`.
        sample_weight: optional float array `(examples,)`, non-negative.
            Defaults to `None`: every example counts the same.

    Returns:
        `DeferralCurve`.

    Raises:
        ValueError: shapes differ, nothing to sweep, NaN.

    Example:

    >>> import keras_cascade as kc
    >>> curve = kc.evaluation.deferral_curve(
    ...     [0.1, 0.5, 0.9], [False, True, True], [True, True, True]
    ... )
    >>> [round(float(a), 3) for a in curve.accuracy]
    [0.667, 1.0, 1.0, 1.0]
    """
    scores, student, teacher, weight = _checked(
        scores, student_correct, teacher_correct, sample_weight
    )
    order = np.argsort(scores, kind="stable")
    scores, weight = scores[order], weight[order]
    student, teacher = student[order], teacher[order]

    # Ends of runs of equal scores: only whole runs can be delegated.
    last_of_run = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
    distinct = scores[last_of_run]
    total = weight.sum()

    def before(values):
        """Sum of `values` over the delegated, for each candidate."""
        return np.append(0.0, np.cumsum(values)[last_of_run])

    delegated = before(weight)
    teacher_right = before(weight * teacher)
    student_right = before(weight * student)
    kept_right = student_right[-1] - student_right
    rate = delegated / total
    rate[-1] = 1.0
    return DeferralCurve(
        thresholds=_candidates(distinct),
        delegation_rate=rate,
        accuracy=(teacher_right + kept_right) / total,
        student_accuracy=float(student_right[-1] / total),
        teacher_accuracy=float(teacher_right[-1] / total),
        examples=len(scores),
    )


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


def _checked(scores, student_correct, teacher_correct, sample_weight):
    scores = np.asarray(scores)
    if scores.dtype not in (np.float32, np.float64):
        scores = scores.astype("float64")
    student = np.asarray(student_correct)
    teacher = np.asarray(teacher_correct)
    if sample_weight is None:
        weight = np.ones(scores.shape)
    else:
        weight = np.asarray(sample_weight, dtype="float64")
    shapes = {a.shape for a in (scores, student, teacher, weight)}
    if len(shapes) != 1 or scores.ndim != 1:
        raise ValueError(
            "Expected scores, student_correct, teacher_correct and "
            "sample_weight to be one-dimensional and equally long. Received "
            f"shapes: {scores.shape}, {student.shape}, {teacher.shape}, "
            f"{weight.shape}."
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
    for name, correct in (("student", student), ("teacher", teacher)):
        if not np.isin(correct, (0, 1)).all():
            raise ValueError(
                f"Expected {name}_correct to hold booleans. Received values "
                f"such as {correct.ravel()[:3].tolist()}."
            )
    if not (np.isfinite(weight).all() and weight.min() >= 0 < weight.sum()):
        raise ValueError(
            "Expected sample_weight to be non-negative, finite and not all "
            "zero."
        )
    return scores, student.astype(bool), teacher.astype(bool), weight
