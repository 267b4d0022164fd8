"""Objective: a bounded expected cost of the answers."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from keras_cascade.calibration.bounded_mean import mean_shown
from keras_cascade.calibration.exact_tests import (
    fixed_sequence_test,
    most_allowed,
)
from keras_cascade.calibration.objective import CHOSEN_AFTERWARDS, Objective
from keras_cascade.utils.validation import check_number

if TYPE_CHECKING:
    from keras_cascade.calibration.calibration_sample import CalibrationSample


class MaxExpectedCost(Objective):
    """Lowest delegation rate with a bounded expected cost of the answers.

    `E[matrix[right label, answer]] <= max_cost`, where kept examples have
    the student's answer and delegated ones the teacher's. The work of either
    model is no part of it: see `MaxCost`.

    With a confidence each threshold is tested from delegating everything
    down (Learn Then Test, arXiv 2110.01052). Where the matrix has one value
    above 0 the test is the exact binomial one; otherwise costs, divided by
    the largest, are a loss in [0, 1], whose mean is tested by betting
    (arXiv 2010.09686), with the weights in the bet:
    `keras_cascade.calibration.bounded_mean`.

    Args:
        matrix: float array `(classes, classes)`, finite and non-negative:
            the cost of each answer (column) to each right label (row).
        max_cost: float > 0, per example.
        confidence: float in (0, 1), or `None` (holds on the calibration
            examples). Defaults to `None`.

    Example:

    >>> import keras_cascade as kc
    >>> kc.MaxExpectedCost([[0, 1], [10, 0]], 0.2)
    MaxExpectedCost([[0.0, 1.0], [10.0, 0.0]], 0.2)
    """

    quantity = "expected_cost"
    side = "at_most"
    limit = "max_cost"
    splits_over_classes = True

    def __init__(
        self,
        matrix: npt.ArrayLike,
        max_cost: float,
        *,
        confidence: float | None = None,
    ):
        super().__init__(confidence)
        values = np.asarray(matrix, dtype="float64")
        square = values.ndim == 2 and values.shape[0] == values.shape[1] >= 2
        if not (square and np.isfinite(values).all() and (values >= 0).all()):
            raise ValueError(
                "Expected a cost matrix of shape (classes, classes) with "
                "finite costs of at least 0, the right labels in rows and the "
                f"answers in columns. Received: shape {values.shape}."
                if not square
                else "Expected a cost matrix with finite costs of at least 0. "
                f"Received: {values.min()} to {values.max()}."
            )
        if not values.any():
            raise ValueError(
                "Expected a cost matrix with a cost above 0. Received: zeros."
            )
        self.matrix = values.tolist()
        self.max_cost = check_number("max_cost", max_cost, 0.0, float("inf"))

    def meets(self, sample: "CalibrationSample") -> np.ndarray:
        student, teacher = self._costs(sample)
        if self.confidence is None:
            return self._means(sample) <= self.max_cost + 1e-12
        values = np.unique(self.matrix)
        largest = float(values[-1])
        limit = self.max_cost / largest
        if limit >= 1:
            return np.ones(len(sample.curve.thresholds), dtype=bool)
        if limit <= 0:
            return np.zeros(len(sample.curve.thresholds), dtype=bool)
        if len(values[values > 0]) == 1:
            counts = sample.examples.kept(
                sample.counted & (student > 0)
            ) + sample.examples.delegated(sample.counted & (teacher > 0))
            most = most_allowed(sample.trials, limit, self.error)
            return fixed_sequence_test(counts <= most)
        shown = mean_shown(
            sample,
            student / largest,
            teacher / largest,
            limit,
            self.error,
            sample.scaled_weight(),
        )
        return fixed_sequence_test(shown)

    def error_message(self, sample: "CalibrationSample") -> str:
        means = self._means(sample)
        best = int(means.argmin())
        attainable = (
            f"on these {len(sample.examples)} calibration examples the cost "
            f"is at best {means[best]:.4g}, at delegation rate "
            f"{sample.curve.delegation_rate[best]:.4f} (student alone "
            f"{means[0]:.4g}, teacher alone {means[-1]:.4g})"
        )
        if self.confidence is None:
            return (
                f"{self} cannot be met: {attainable}. Ask for that, or train "
                "a better teacher."
            )
        return (
            f"{self} cannot be guaranteed with everything delegated, where "
            f"the tests begin: {attainable}. Ask for a cost that is further "
            "above that of the teacher alone, collect more examples, or "
            f"train a better teacher. {CHOSEN_AFTERWARDS}"
        )

    def get_config(self) -> dict[str, Any]:
        return {
            "matrix": self.matrix,
            "max_cost": self.max_cost,
            **super().get_config(),
        }

    def __repr__(self):
        matrix = self.matrix
        if len(matrix) > 4:
            matrix = f"[{len(matrix)} x {len(matrix)} costs]"
        confidence = (
            f", confidence={self.confidence}" if self.confidence else ""
        )
        return f"MaxExpectedCost({matrix}, {self.max_cost}{confidence})"

    def _costs(self, sample):
        """Costs of the student's and of the teacher's answers, sorted."""
        matrix = np.asarray(self.matrix)
        right = sample.labels_sorted(self)
        answers = sample.predictions_sorted(self)
        highest = max(int(one.max()) for one in (right, *answers))
        classes = sample.classes or highest + 1
        if len(matrix) != classes and not (
            sample.classes is None and len(matrix) > highest
        ):
            raise ValueError(
                f"Expected a cost matrix of {classes} rows and columns, one "
                f"for each class. Received: {len(matrix)}."
            )
        return tuple(matrix[right, one] for one in answers)

    def _means(self, sample):
        student, teacher = self._costs(sample)
        weight = sample.examples.weight
        if weight is None:
            weight = np.ones(len(student))
        total = sample.examples.kept(
            weight * student
        ) + sample.examples.delegated(weight * teacher)
        return total / weight.sum()
