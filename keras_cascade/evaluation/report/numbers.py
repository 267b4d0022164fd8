"""Every number of a report, from the examples that were scored."""

import dataclasses

from keras_cascade.evaluation.report.mistakes import hardest_kept_mistakes
from keras_cascade.evaluation.report.slider import slider_values
from keras_cascade.evaluation.summary import summarize


def report_numbers(
    results, point, costs, class_names, bounds=None, confidence=0.95,
    resamples=1000, seed=0,
):  # fmt: skip
    """Measures what the page shows.

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
        `summarize` returns it), `slider` (as `slider_values`) and `mistakes`
        (as `hardest_kept_mistakes`).
    """
    threshold = point["threshold"]
    summary = summarize(results, threshold, costs, confidence, resamples, seed)
    found = summary["at_threshold"]
    numbers = {
        "student_accuracy": summary["student_accuracy"],
        "teacher_accuracy": summary["teacher_accuracy"],
        "cascade_accuracy": found["accuracy"],
        "delegation_rate": found["delegation_rate"],
        "amortized_cost": found["amortized_cost"],
        "threshold": threshold,
        "objective": point["objective"],
        "calibration": point,
        "costs": dataclasses.asdict(costs),
        "class_names": [str(name) for name in class_names],
        "summary": summary,
        "slider": slider_values(
            results, threshold, point["guarantees"], costs, bounds
        ),
        "mistakes": hardest_kept_mistakes(results, threshold),
    }
    return {**numbers, "rows": comparison_rows(numbers, costs)}


def comparison_rows(numbers, costs):
    """Student, teacher and cascade side by side.

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
