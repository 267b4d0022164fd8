"""Deferral curve: cascade accuracy against delegation rate."""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from keras_cascade.evaluation.sorted_examples import SortedExamples

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Shares that differ by less differ by the rounding of their sums.
ROUNDING = 1e-12


@dataclasses.dataclass(frozen=True, eq=False)
class DeferralCurve:
    """Delegation rate and accuracy at every candidate threshold.

    All arrays have one entry per candidate threshold, from delegating nothing
    to delegating everything.

    Attributes:
        thresholds: float array, ascending, in the scores' own precision.
        delegation_rate: float array in [0, 1], ascending.
        accuracy: float array in [0, 1], of the cascade.
        student_accuracy: float, at no delegation.
        teacher_accuracy: float, at full delegation.
        examples: int.
        loss_name: str, such as `"Hamming loss"`, where accuracies are means
            of `1 - loss`; the plot is then of the loss. Defaults to `None`.
    """

    thresholds: np.ndarray
    delegation_rate: np.ndarray
    accuracy: np.ndarray
    student_accuracy: float
    teacher_accuracy: float
    examples: int
    loss_name: str | None = None

    def index_of(self, rate: float) -> int:
        """Index of the candidate with the highest rate up to `rate`.

        Args:
            rate: float in [0, 1].
        """
        candidates = np.searchsorted(
            self.delegation_rate, rate + ROUNDING, side="right"
        )
        return int(candidates) - 1

    def accuracy_at(self, rate: float) -> float:
        """Cascade accuracy at the highest attainable rate up to `rate`.

        Args:
            rate: float in [0, 1].
        """
        return float(self.accuracy[self.index_of(rate)])

    def rate_to_reach(self, accuracy: float) -> float:
        """Lowest delegation rate whose cascade accuracy reaches `accuracy`.

        Args:
            accuracy: float in [0, 1]. The teacher's own is always reached, at
                the latest by delegating everything.

        Raises:
            ValueError: no candidate reaches it.

        Example:

        >>> import keras_cascade as kc
        >>> curve = kc.evaluation.deferral_curve(
        ...     [0.1, 0.5, 0.9], [False, True, True], [True, True, True]
        ... )
        >>> round(curve.rate_to_reach(curve.teacher_accuracy), 3)
        0.333
        """
        reached = self.accuracy >= accuracy - ROUNDING
        if not reached.any():
            raise ValueError(
                f"Expected an accuracy of at most {self.accuracy.max():.4f}, "
                "the highest that any threshold reaches on these examples. "
                f"Received: {accuracy}."
            )
        return float(self.delegation_rate[reached.argmax()])

    def random_accuracy(self) -> np.ndarray:
        """Accuracy of random delegation at each rate, a straight line."""
        rate = self.delegation_rate
        return (1 - rate) * self.student_accuracy + rate * self.teacher_accuracy

    def plot(
        self,
        ax: "Axes | None" = None,
        title: str | None = None,
        point: Any = None,
    ) -> "Axes":
        """Draws the curve and, for comparison, random delegation.

        Args:
            ax: `matplotlib.axes.Axes`. Defaults to `None`: a new figure.
            title: str. Defaults to `None`.
            point: `OperatingPoint` to mark, or `(delegation_rate,
                accuracy)`. Defaults to `None`.

        Returns:
            `matplotlib.axes.Axes`.
        """
        from keras_cascade.evaluation.plots import draw_deferral_curve

        if ax is None:
            import matplotlib.pyplot as plt

            _, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
        if hasattr(point, "delegation_rate"):
            point = point.delegation_rate, point.accuracy
        draw_deferral_curve(ax, self, title, point)
        return ax


def deferral_curve(
    scores: npt.ArrayLike,
    student_correct: npt.ArrayLike,
    teacher_correct: npt.ArrayLike,
    sample_weight: npt.ArrayLike | None = None,
    loss_name: str | None = None,
) -> DeferralCurve:
    """Computes the deferral curve over all candidate thresholds.

    `accuracy = P(keep ∧ student right) + P(delegate ∧ teacher right)`; where
    qualities are fractions in [0, 1], their mean, of the student's on kept
    examples and the teacher's on delegated ones.

    Candidates are the midpoints between adjacent distinct scores, never
    rounded, and the two ends: the type's lowest number delegates nothing, its
    highest everything.

    Args:
        scores: float array `(examples,)`, higher = surer. No NaN.
        student_correct: bool array `(examples,)`, or float array in [0, 1].
        teacher_correct: bool array `(examples,)`, or float array in [0, 1].
        sample_weight: optional float array `(examples,)`, non-negative.
            Defaults to `None`: every example counts the same.
        loss_name: optional str, the name of `1 - quality` where qualities are
            fractions. Defaults to `None`.

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
    return curve_of(
        SortedExamples(scores, student_correct, teacher_correct, sample_weight),
        loss_name,
    )


def curve_of(examples, loss_name=None):
    """Computes the deferral curve of sorted examples.

    Args:
        examples: `SortedExamples`.
        loss_name: str or `None`. Defaults to `None`.

    Returns:
        `DeferralCurve`.
    """

    def weighted(values):
        return values if examples.weight is None else examples.weight * values

    everyone = np.ones(len(examples), dtype=bool)
    weights = examples.delegated(weighted(everyone))
    # The last sum, not `weight.sum()`: rounded otherwise, it can be less.
    total = weights[-1]
    right = examples.delegated(weighted(examples.teacher)) + examples.kept(
        weighted(examples.student)
    )
    rate = weights / total
    accuracy = right / total
    return DeferralCurve(
        thresholds=examples.thresholds,
        delegation_rate=rate,
        accuracy=accuracy,
        student_accuracy=float(accuracy[0]),
        teacher_accuracy=float(accuracy[-1]),
        examples=len(examples),
        loss_name=loss_name,
    )
