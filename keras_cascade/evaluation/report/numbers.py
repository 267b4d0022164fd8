"""Numbers of a report, computed from scored test examples."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_cascade.evaluation.deferral_curve import curve_of
from keras_cascade.evaluation.report.mistakes import hardest_mistakes
from keras_cascade.evaluation.sorted_examples import SortedExamples
from keras_cascade.evaluation.summary import summarize
from keras_cascade.evaluation.teacher_remarks import teacher_remarks

if TYPE_CHECKING:
    from keras_cascade.calibration.simultaneous_bounds import SimultaneousBounds
    from keras_cascade.evaluation.costs import Costs
    from keras_cascade.evaluation.example_results import ExampleResults

#: Side of the calibrated threshold on which a guarantee still holds: accuracy
#: is tested from the highest threshold down, a budget from the lowest up.
SIDES = {
    "accuracy_drop": "above",
    "accuracy": "above",
    "group_accuracy": "above",
    "precision": "above",
    "recall": "above",
    "false_alarm_rate": "above",
    "expected_cost": "above",
    "expected_loss": "above",
    "loss_increase": "above",
    "delegation_rate": "below",
    "amortized_cost": "below",
}
SLIDER_POINTS = 401


def report_numbers(
    results: "ExampleResults",
    point: dict[str, Any],
    costs: "Costs",
    class_names: Sequence[str],
    bounds: "SimultaneousBounds | None" = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Computes every number of a report.

    Args:
        results: `ExampleResults`, the test examples.
        point: dict, as `OperatingPoint.to_dict` returns it.
        costs: `Costs`.
        class_names: list of str, in label order.
        bounds: optional `keras_cascade.calibration.SimultaneousBounds`, of
            the calibration examples. Defaults to `None`.
        confidence: float in (0, 1), of the bootstrap intervals. Defaults to
            `0.95`.
        resamples: int, of the bootstrap. Defaults to `1000`.
        seed: int. Defaults to `0`.

    Returns:
        JSON-compatible dict for `write_report`: `student_accuracy`,
        `teacher_accuracy`, `cascade_accuracy`, `delegation_rate`,
        `amortized_cost`, `threshold`, `objective`, `calibration` (the
        operating point), `costs`, `class_names`, `rows`, `summary` (as
        `summarize` returns it), `slider` (as `slider_values`), `mistakes`
        (as `hardest_mistakes`), `remarks` (as `teacher_remarks`) and
        `loss_name` (as `ExampleResults` has it).
    """
    threshold = point["threshold"]
    mistakes = hardest_mistakes(
        results, point.get("class_thresholds") or threshold
    )
    if point.get("class_thresholds"):
        # One threshold of 0, of scores less the predicted class's threshold.
        # Those were chosen on the bounds' examples, which then bound nothing.
        results = _above_class_thresholds(results, point["class_thresholds"])
        threshold, bounds = 0.0, None
    summary = summarize(results, threshold, costs, confidence, resamples, seed)
    at_threshold = summary["at_threshold"]
    numbers = {
        "student_accuracy": summary["student_accuracy"],
        "teacher_accuracy": summary["teacher_accuracy"],
        "cascade_accuracy": at_threshold["accuracy"],
        "delegation_rate": at_threshold["delegation_rate"],
        "amortized_cost": at_threshold["amortized_cost"],
        "threshold": threshold,
        "objective": point["objective"],
        "calibration": point,
        "costs": dataclasses.asdict(costs),
        "class_names": [str(name) for name in class_names],
        "summary": summary,
        "slider": slider_values(
            results, threshold, point["guarantees"], costs, bounds
        ),
        "mistakes": mistakes,
        "remarks": teacher_remarks(results),
        "loss_name": results.loss_name,
    }
    return {**numbers, "rows": comparison_rows(numbers, costs)}


def comparison_rows(numbers, costs):
    """Rows of the table that compares student, teacher and cascade.

    Args:
        numbers: dict of `student_accuracy`, `teacher_accuracy`,
            `cascade_accuracy`, `delegation_rate`, `amortized_cost`.
        costs: `Costs`.

    Returns:
        List of dicts: `name`, `accuracy`, `delegation_rate`, `cost`.
    """
    return [
        {
            "name": name,
            "accuracy": numbers[f"{key}_accuracy"],
            "delegation_rate": rate,
            "cost": cost,
        }
        for name, key, rate, cost in (
            ("student alone", "student", 0.0, costs.student),
            ("teacher alone", "teacher", 1.0, costs.delegated),
            (
                "cascade",
                "cascade",
                numbers["delegation_rate"],
                numbers["amortized_cost"],
            ),
        )
    ]


def _above_class_thresholds(results, class_thresholds):
    """Results with scores less the threshold of the predicted class."""
    scores = np.asarray(results.scores, dtype="float64")
    # The ends, which delegate nothing or everything, are beyond every score.
    thresholds = np.clip(
        class_thresholds, scores.min() - 1.0, scores.max() + 1.0
    )
    predicted = np.asarray(results.student_labels)
    return dataclasses.replace(results, scores=scores - thresholds[predicted])


def slider_values(results, threshold, guarantees=(), costs=None, bounds=None):
    """Values of the page's slider: the cascade at each of many thresholds.

    Args:
        results: `ExampleResults`, the test examples.
        threshold: float, the calibrated one.
        guarantees: list of dicts, as `OperatingPoint.guarantees`. Defaults to
            none.
        costs: optional `Costs`. Defaults to `None`.
        bounds: optional `keras_cascade.calibration.SimultaneousBounds`.
            Defaults to `None`.

    Returns:
        JSON-compatible dict. Lists with one entry per threshold: `threshold`,
        ascending, at most 401, among them both ends of the curve and the
        calibrated one, exactly; `accuracy`, `delegation_rate`; and, `None`
        where they are unknown, `amortized_cost`, `accuracy_drop_bound`,
        `delegation_rate_bound`, `amortized_cost_bound`. Beside them `start`,
        the index of the calibrated threshold; `confidence` and `examples` of
        the bounds; `unit` of costs; `guarantees`, each with the side of the
        calibrated threshold (`stands`: `"above"` or `"below"`) on which it
        stands, that threshold included.

    Example:

    >>> import keras_cascade as kc
    >>> from keras_cascade.evaluation.report.numbers import slider_values
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
    indices = examples.candidate_of(thresholds)
    rate = curve.delegation_rate[indices]
    values = {
        "threshold": thresholds.tolist(),
        "accuracy": curve.accuracy[indices].tolist(),
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
    """Evenly spread candidates with the calibrated threshold, and its index."""
    limits = np.finfo(candidates.dtype)
    threshold = np.clip(threshold, limits.min, limits.max)
    threshold = threshold.astype(candidates.dtype)
    spread = np.linspace(0, len(candidates) - 1, SLIDER_POINTS - 1)
    indices = np.unique(spread.round().astype(int))
    # `unique` sorts, and keeps one where the threshold is a candidate.
    thresholds = np.unique(np.append(candidates[indices], threshold))
    return thresholds, int(np.searchsorted(thresholds, threshold))
