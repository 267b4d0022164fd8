"""Objective: a bounded amortized cost per example."""

from typing import TYPE_CHECKING, Any

from keras_cascade.calibration.budget import Budget
from keras_cascade.utils.validation import check_number

if TYPE_CHECKING:
    from keras_cascade.calibration.calibration_sample import CalibrationSample


class MaxCost(Budget):
    """Highest delegation rate within a cost limit.

    The amortized cost `student + d·(teacher + network)` rises with the
    delegation rate d, so a limit on one is a limit on the other.

    Args:
        max_cost: float > 0, per example, in the unit of the cascade's
            `Costs`.
        tolerance: float in [0, 1], the accepted distance below the delegation
            rate that the limit allows. Defaults to `0.01`.
        confidence: float in (0, 1), or `None` (holds on the calibration
            examples). Defaults to `None`.

    Example:

    >>> import keras_cascade as kc
    >>> point = kc.calibration.fit_threshold(
    ...     [0.1, 0.2, 0.3, 0.4], [0, 1, 1, 1], [1, 1, 1, 1],
    ...     kc.MaxCost(0.6),
    ...     costs=kc.evaluation.Costs(0.1, 1.0, "teacher passes", "given"),
    ... )
    >>> point.delegation_rate, point.amortized_cost
    (0.5, 0.6)
    """

    quantity = "amortized_cost"
    side = "at_most"
    limit = "max_cost"

    def __init__(
        self,
        max_cost: float,
        *,
        tolerance: float = 0.01,
        confidence: float | None = None,
    ):
        super().__init__(tolerance, confidence)
        self.max_cost = check_number("max_cost", max_cost, 0.0, float("inf"))

    def max_rate_for(self, sample: "CalibrationSample") -> float:
        costs = sample.costs
        if costs is None:
            raise ValueError(
                f"{self} needs costs. Expected: `costs=Costs(...)`. Received "
                "none."
            )
        if costs.are_weights:
            raise ValueError(
                f"{self} limits the work per example, and these costs are "
                f"{costs.how_measured}. A number of weights says little about "
                "the work. Expected: costs that are counted, timed or given. "
                "Time the models with "
                "`keras_cascade.export.costs_from_latency(cascade, x)`, or "
                "give `Costs(student, teacher, unit, how_measured)`."
            )
        rate = (self.max_cost - costs.student) / costs.delegated
        if rate < 0:
            raise ValueError(
                f"{self} cannot be met: the student alone costs "
                f"{costs.student:.4g} {costs.unit} on every example. Ask for "
                "more than that."
            )
        return min(rate, 1.0)

    def get_config(self) -> dict[str, Any]:
        return {"max_cost": self.max_cost, **super().get_config()}
