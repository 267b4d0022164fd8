"""Objective: a bounded delegation rate."""

from typing import TYPE_CHECKING, Any

from keras_cascade.calibration.budget import Budget
from keras_cascade.utils.validation import check_number

if TYPE_CHECKING:
    from keras_cascade.calibration.calibration_sample import CalibrationSample


class MaxDelegationRate(Budget):
    """Highest delegation rate within a budget.

    Chooses the highest attainable delegation rate that is at most `max_rate`;
    with a confidence, the highest for which that can be guaranteed of new
    examples. Tied scores move together, so some rates do not exist: when the
    nearest one below is further away than `tolerance`, the objective
    raises an error instead of approximating.

    Args:
        max_rate: float in [0, 1].
        tolerance: float in [0, 1], the accepted distance below it; one
            calibration example is always accepted. Defaults to `0.01`.
        confidence: float in (0, 1), or `None` (holds on the calibration
            examples). Defaults to `None`.

    Example:

    >>> import keras_cascade as kc
    >>> kc.MaxDelegationRate(0.2)
    MaxDelegationRate(0.2)
    """

    quantity = "delegation_rate"
    side = "at_most"
    limit = "max_rate"

    def __init__(
        self,
        max_rate: float,
        *,
        tolerance: float = 0.01,
        confidence: float | None = None,
    ):
        super().__init__(tolerance, confidence)
        self.max_rate = check_number("max_rate", max_rate, 0.0, 1.0)

    def max_rate_for(self, sample: "CalibrationSample") -> float:
        return self.max_rate

    def get_config(self) -> dict[str, Any]:
        return {"max_rate": self.max_rate, **super().get_config()}
