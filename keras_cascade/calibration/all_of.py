"""Conjunction of several objectives."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_cascade.calibration.objective import CHOSEN_AFTERWARDS, Objective

if TYPE_CHECKING:
    from keras_cascade.calibration.calibration_sample import CalibrationSample


class AllOf(Objective):
    """Cheapest threshold that meets every one of several objectives.

    Each guarantee holds with its own confidence; all of them together with at
    least `1 - Σ(1 - confidence)`, which is this objective's `confidence`, or
    `None` where that is nothing.

    Args:
        objectives: list of `Objective`s, at least one.

    Example:

    >>> import keras_cascade as kc
    >>> kc.calibration.AllOf(
    ...     [kc.MaxAccuracyDrop(0.01), kc.MaxDelegationRate(0.3)]
    ... )
    AllOf([MaxAccuracyDrop(0.01), MaxDelegationRate(0.3)])
    """

    def __init__(self, objectives: Sequence[Objective]):
        super().__init__()
        listed = objectives if isinstance(objectives, (list, tuple)) else ()
        if not listed or not all(isinstance(o, Objective) for o in listed):
            raise ValueError(
                "Expected a list of objectives, such as "
                "`[MaxAccuracyDrop(0.01), MaxDelegationRate(0.3)]`. "
                f"Received: {objectives!r}."
            )
        self.objectives: list[Objective] = []
        for one in listed:
            self.objectives += getattr(one, "objectives", [one])
        errors = [o.error for o in self.objectives if o.confidence is not None]
        if errors and sum(errors) < 1:
            self.confidence = round(1 - sum(errors), 12)
        self.spends_budget = all(o.spends_budget for o in self.objectives)
        self.splits_over_classes = all(
            o.splits_over_classes for o in self.objectives
        )
        decisions = {o.certain for o in self.objectives}
        if len(decisions) == 1:
            self.certain = decisions.pop()

    def check_sample(self, sample: "CalibrationSample") -> None:
        for one in self.objectives:
            one.check_sample(sample)

    def meets(self, sample: "CalibrationSample") -> np.ndarray:
        return np.all([o.meets(sample) for o in self.objectives], axis=0)

    def choose(self, sample: "CalibrationSample") -> int:
        masks = [o.meets(sample) for o in self.objectives]
        for one, mask in zip(self.objectives, masks, strict=True):
            if not mask.any():
                raise ValueError(one.error_message(sample))
        met = np.flatnonzero(np.all(masks, axis=0))
        if met.size == 0:
            raise ValueError(_conflict(self.objectives, masks, sample))
        if not self.spends_budget:
            return int(met[0])
        # The tightest budget decides, and says whether it can be reached.
        ends = [np.flatnonzero(mask)[-1] for mask in masks]
        return self.objectives[int(np.argmin(ends))].choose(sample)

    def guarantees(
        self, sample: "CalibrationSample | None" = None
    ) -> list[dict[str, Any]]:
        return [g for one in self.objectives for g in one.guarantees(sample)]

    def tested_examples(self, sample: "CalibrationSample") -> float:
        return min(o.tested_examples(sample) for o in self.objectives)

    def with_error_split(self, parts: int) -> "AllOf":
        return AllOf([one.with_error_split(parts) for one in self.objectives])

    def get_config(self) -> dict[str, Any]:
        return {"objectives": [one.describe() for one in self.objectives]}


def _conflict(objectives, masks, sample):
    rates = sample.curve.delegation_rate
    ranges = []
    guaranteed = any(one.confidence is not None for one in objectives)
    for one, mask in zip(objectives, masks, strict=True):
        low, high = rates[np.flatnonzero(mask)[[0, -1]]]
        ranges.append(f"{one} by delegation rates from {low:.4f} to {high:.4f}")
    return (
        "No threshold meets all objectives at once. On these "
        f"{sample.curve.examples} calibration examples they are met: "
        f"{'; '.join(ranges)}. Relax one of them, or collect more examples."
        + (f" {CHOSEN_AFTERWARDS}" if guaranteed else "")
    )
