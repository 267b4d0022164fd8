"""Populations with known error probabilities at every threshold."""

import dataclasses

import numpy as np

CLASSES = 10


@dataclasses.dataclass(frozen=True, eq=False)
class Population:
    """Whole population as a table; `draw` samples it i.i.d.

    Attributes:
        scores: float32 array `(rows,)`, ascending.
        student: float array `(rows,)`, P(student right) in a row.
        teacher: float array `(rows,)`, P(teacher right) in a row.
        labels: int array `(rows,)`.
        groups: int array `(rows,)`.
    """

    scores: np.ndarray
    student: np.ndarray
    teacher: np.ndarray
    labels: np.ndarray
    groups: np.ndarray

    def draw(self, rng, size):
        """Draws independent examples `(scores, student, teacher, rows)`."""
        rows = rng.integers(0, len(self.scores), size)
        return (
            self.scores[rows],
            rng.random(size) < self.student[rows],
            rng.random(size) < self.teacher[rows],
            rows,
        )


class Truth:
    """True performance of each threshold on a population, or a part of one.

    Args:
        scores: float array `(rows,)`.
        student: array `(rows,)` of P(student right), or of 0 and 1.
        teacher: array `(rows,)` of P(teacher right), or of 0 and 1.
        weight: array `(rows,)`, how often each row comes. Defaults to `None`.
    """

    def __init__(self, scores, student, teacher, weight=None):
        weight = np.ones(len(scores)) if weight is None else weight
        order = np.argsort(scores, kind="stable")
        self._scores = scores[order]
        total = weight.sum()

        def delegated(values):
            return np.append(0.0, np.cumsum((weight * values)[order])) / total

        def kept(values):
            sums = delegated(values)
            return sums[-1] - sums

        right = delegated(teacher) + kept(student)
        negative, positive = (
            kept((1 - student) * teacher),
            kept(student * (1 - teacher)),
        )
        self._columns = {
            "rate": delegated(np.ones(len(scores))),
            "accuracy": right,
            "drop": negative - positive,
            "drop_variance": negative + positive - (negative - positive) ** 2,
        }
        self.teacher_accuracy = right[-1]
        #: Worth of a weighted example, in unweighted ones.
        self.worth = total**2 / (len(scores) * (weight @ weight))
        # One threshold for every decision that makes a difference.
        self.thresholds = np.append(
            np.unique(self._scores), np.finfo(self._scores.dtype).max
        )

    def at(self, thresholds):
        """Returns a dict of `rate`, `accuracy`, `drop` and `drop_variance`."""
        index = np.searchsorted(
            self._scores, np.asarray(thresholds, self._scores.dtype), "left"
        )
        return {name: values[index] for name, values in self._columns.items()}


def synthetic(distinct_scores=None, rows=200_000):
    """Makes a population whose errors are known row by row.

    Both are right more often where the score is high, the student more so.
    The first two classes are easier than the others.

    Args:
        distinct_scores: int, how many values an int8 score takes, a quarter
            of the examples sharing the highest; `None` for no ties.
        rows: int, size of the table.
    """
    rng = np.random.default_rng(0)
    share = (np.arange(rows) + 0.5) / rows  # of examples with a lower score
    labels = rng.integers(0, CLASSES, rows)
    easy = labels < 2
    student = 1 - 0.62 * (1 - share) ** 2 * np.where(easy, 0.8, 1.0)
    teacher = 1 - 0.24 * (1 - share) ** 2 * np.where(easy, 0.8, 1.0)
    scores = share.astype("float32")
    if distinct_scores is not None:
        tied = np.minimum(share / 0.75, 1.0)
        scores = np.round(tied * (distinct_scores - 1)) / distinct_scores
        scores = scores.astype("float32")
    groups = (labels >= 5).astype(int)
    return Population(scores, student, teacher, labels, groups)
