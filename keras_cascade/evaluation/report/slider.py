"""What the report's slider shows, threshold by threshold."""

import numpy as np

from keras_cascade.evaluation.deferral_curve import curve_of
from keras_cascade.evaluation.sorted_examples import SortedExamples

#: On which side of the calibrated threshold a guarantee still stands: accuracy
#: is shown from the highest threshold down, a budget from the lowest up.
SIDES = {
    "accuracy_drop": "above",
    "accuracy": "above",
    "group_accuracy": "above",
    "delegation_rate": "below",
    "amortized_cost": "below",
}
MOST_POINTS = 401


def slider_values(results, threshold, guarantees=(), costs=None, bounds=None):
    """Thresholds to look at, and what the cascade does at each.

    Args:
        results: `ExampleResults`, the test examples.
        threshold: float, the calibrated one.
        guarantees: list of dicts, as `OperatingPoint.guarantees`. Defaults to
            none.
        costs: optional `Costs`. Defaults to `None`.
        bounds: optional `keras_cascade.calibration.SimultaneousBounds`.
            Defaults to `None`.

    Returns:
        JSON-compatible dict. Lists with one entry a threshold: `threshold`,
        ascending, at most 401, among them both ends of the curve and the
        calibrated one, exactly; `accuracy`, `delegation_rate`; and, `None`
        where they are not known, `amortized_cost`, `accuracy_drop_bound`,
        `delegation_rate_bound`, `amortized_cost_bound`. Beside them `start`,
        the index of the calibrated threshold; `confidence` and `examples` of
        the bounds; `unit` of costs; `guarantees`, each with the side of the
        calibrated threshold (`stands`: `"above"` or `"below"`) on which it
        stands, that threshold included.

    Example:

    >>> import keras_cascade as kc
    >>> from keras_cascade.evaluation.report.slider import slider_values
    >>> results = kc.evaluation.ExampleResults(
    ...     scores=[0.1, 0.5, 0.9],
    ...     student_correct=[False, True, True],
    ...     teacher_correct=[True, True, True],
    ... )
    >>> values = slider_values(results, threshold=0.4)
    >>> values["threshold"][values["start"]], len(values["threshold"])
    (0.4, 5)
    """
    examples = SortedExamples(
        results.scores,
        results.student_correct,
        results.teacher_correct,
        results.sample_weight,
    )
    curve = curve_of(examples)
    thresholds, start = _thresholds(curve.thresholds, threshold)
    places = examples.candidate_of(thresholds)
    rate = curve.delegation_rate[places]
    values = {
        "threshold": thresholds.tolist(),
        "accuracy": curve.accuracy[places].tolist(),
        "delegation_rate": rate.tolist(),
        "amortized_cost": None,
        "accuracy_drop_bound": None,
        "delegation_rate_bound": None,
        "amortized_cost_bound": None,
        "start": start,
        "confidence": None,
        "examples": None,
        "unit": None if costs is None else costs.unit,
        "guarantees": [
            {**guarantee, "stands": SIDES[guarantee["quantity"]]}
            for guarantee in guarantees
        ],
    }
    if costs is not None:
        values["amortized_cost"] = costs.amortized(rate).tolist()
    if bounds is not None:
        most = bounds.delegation_rate(thresholds)
        values["accuracy_drop_bound"] = bounds.accuracy_drop(
            thresholds
        ).tolist()
        values["delegation_rate_bound"] = most.tolist()
        values["confidence"] = float(bounds.confidence)
        values["examples"] = int(bounds.examples)
        if costs is not None:
            values["amortized_cost_bound"] = costs.amortized(most).tolist()
    return values


def _thresholds(candidates, threshold):
    """Candidates evenly spread, with the calibrated one, and its index."""
    limits = np.finfo(candidates.dtype)
    threshold = np.clip(threshold, limits.min, limits.max)
    threshold = threshold.astype(candidates.dtype)
    spread = np.linspace(0, len(candidates) - 1, MOST_POINTS - 1)
    places = np.unique(spread.round().astype(int))
    # `unique` sorts, and keeps one where the threshold is a candidate.
    thresholds = np.unique(np.append(candidates[places], threshold))
    return thresholds, int(np.searchsorted(thresholds, threshold))
