"""Merit of a cascade under a budget, and differences of two."""

import dataclasses
from typing import Any

import numpy as np

from keras_cascade import calibration
from keras_cascade.calibration import AllOf, Objective, OperatingPoint
from keras_cascade.evaluation import Costs, ExampleResults
from keras_cascade.evaluation.comparison import check_same_examples


@dataclasses.dataclass(frozen=True)
class Merit:
    """Accuracy or cost that a cascade reaches within a budget.

    Attributes:
        value: float; higher = better. Accuracy, of a budget that limits the
            delegation rate or the cost; minus the amortized cost, of one that
            limits the accuracy; minus infinity where nothing meets it.
        of_accuracy: bool, whether it is an accuracy.
        point: `OperatingPoint` at the budget; `None` where nothing meets it.
        nearest: str, what is attainable where nothing meets the budget.
    """

    value: float
    of_accuracy: bool
    point: OperatingPoint | None
    nearest: str | None = None


def merit_of(
    results: ExampleResults,
    budget: Objective,
    costs: Costs | None,
    class_names: list[str] | None = None,
) -> Merit:
    """Computes the merit of scored examples.

    Args:
        results: `ExampleResults`.
        budget: `Objective`; its confidence is left out, as validation
            examples are used again and again.
        costs: `Costs` of the cascade, or `None`.
        class_names: list of str, for a budget that names a class. Defaults to
            `None`.
    """
    try:
        point = calibration.calibrate(
            results, empirical(budget), costs, class_names=class_names
        )
    except ValueError as error:
        return Merit(-np.inf, budget.spends_budget, None, str(error))
    if budget.spends_budget:
        return Merit(point.accuracy, True, point)
    cost = point.amortized_cost
    cost = point.delegation_rate if cost is None else cost
    return Merit(-cost, False, point)


def empirical(budget: Objective) -> Objective:
    """The budget without a confidence, with any distance of tied scores."""
    if isinstance(budget, AllOf):
        return AllOf([empirical(one) for one in budget.objectives])
    config = {**budget.get_config(), "confidence": None}
    if "tolerance" in config:
        config["tolerance"] = 1.0
    return type(budget)(**config)


def difference(
    one: ExampleResults,
    other: ExampleResults,
    merits: tuple[Merit, Merit],
    costs: tuple[Costs | None, Costs | None],
    confidence: float,
) -> dict[str, Any]:
    """Paired difference of the merits of two cascades, with its interval.

    Each at its own operating point. Per example the merit is the correctness
    of the answer, or minus the cost of it; the interval is that of the mean
    difference, normal, by the paired differences' standard error. Thresholds
    count as given.

    Args:
        one: `ExampleResults`.
        other: `ExampleResults` of the same examples in the same order.
        merits: pair of `Merit`, each with a point.
        costs: pair of `Costs`.
        confidence: float in (0, 1).

    Returns:
        Dict of `difference`, `low`, `high` and `examples_needed`: about how
        many would tell the two apart.
    """
    from scipy import stats

    check_same_examples(one, other)
    columns = [
        _merit_of_each(results, merit, cost)
        for results, merit, cost in zip(
            (one, other), merits, costs, strict=True
        )
    ]
    paired = columns[0] - columns[1]
    weight = one.sample_weight
    weight = np.ones(len(paired)) if weight is None else np.asarray(weight)
    weight = weight / weight.sum()
    mean = float(weight @ paired)
    # Of a weighted mean: the sum of squared weighted residuals.
    error = float(np.sqrt(np.sum((weight * (paired - mean)) ** 2)))
    reach = float(stats.norm.isf((1 - confidence) / 2)) * error
    needed = None
    if mean:
        needed = int(np.ceil(len(paired) * (reach / mean) ** 2))
    return {
        "difference": mean,
        "low": mean - reach,
        "high": mean + reach,
        "examples_needed": needed,
    }


def _merit_of_each(results, merit, costs):
    delegated = np.asarray(results.scores) < merit.point.threshold
    if merit.of_accuracy:
        return np.where(
            delegated, results.teacher_correct, results.student_correct
        ).astype("float64")
    if costs is None:
        return -delegated.astype("float64")
    return -(costs.student + delegated * costs.delegated)
