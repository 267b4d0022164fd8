"""Paired comparison of two cascades by bootstrap."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_cascade.errors import UndefinedMetricError
from keras_cascade.evaluation.bootstrap import (
    FEW,
    ResampledCurve,
    check_plan,
    check_rates,
    measure_resamples,
    percentile_interval,
    with_weight,
)
from keras_cascade.evaluation.deferral_curve import ROUNDING
from keras_cascade.evaluation.deferral_score import NO_BETTER_ORDER
from keras_cascade.evaluation.delegated_at import delegated_at
from keras_cascade.evaluation.exact_intervals import (
    paired_difference_interval,
)

if TYPE_CHECKING:
    from keras_cascade.evaluation.example_results import ExampleResults

#: Delegation rates at which accuracy is reported.
BUDGETS = (0.05, 0.1, 0.2, 0.3, 0.5)
_WORDS = {
    "area": "area under the deferral curve",
    "score": "deferral score",
    "accuracy": "accuracy at the threshold",
    "delegation_rate": "delegation rate at the threshold",
}


def compare(
    one: "ExampleResults",
    other: "ExampleResults",
    thresholds: Sequence[float] | None = None,
    budgets: Sequence[float] = BUDGETS,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    names: Sequence[str] = ("one", "other"),
) -> dict[str, Any]:
    """Compares two cascades on the same examples by a paired bootstrap.

    Paired percentile bootstrap: both cascades see the same resamples, so that
    what makes an example hard for both cancels out. Every difference is `one`
    minus `other`.

    Near 0 and 1 a percentile interval is too short. Without weights, the
    differences of `accuracy` and `delegation_rate` at the thresholds have an
    exact paired interval instead (`exact_intervals`), and those of accuracy at
    a budget the wider of both where fewer than 10 examples differ. Areas,
    scores, weighted examples and accuracies of qualities that are fractions
    have percentile intervals alone: where either cascade has fewer than some
    10 errors, they cover less than they state.

    Each interval stands on its own: of many differences between equal
    cascades, one in twenty is expected to exclude 0 at 95 %. Decide before
    looking which one counts. The intervals are about these two models on
    other examples of the same kind; to compare ways of training, repeat the
    training too.

    Args:
        one: `ExampleResults`.
        other: `ExampleResults`, of the same examples in the same order.
        thresholds: optional pair of floats, each cascade's own. Defaults to
            `None`.
        budgets: delegation rates at which accuracies are compared, each
            cascade at the highest rate that it attains up to the budget.
            Defaults to `(0.05, 0.1, 0.2, 0.3, 0.5)`.
        confidence: float in (0, 1). Defaults to `0.95`.
        resamples: int. Defaults to `1000`.
        seed: int. Defaults to `0`.
        names: pair of str, the cascades' names in the verdict. Defaults to
            `("one", "other")`.

    Returns:
        JSON-compatible dict: `differences`, a list of dicts with `quantity`,
        `one`, `other`, `difference`, `low`, `high` and `differs` (the
        interval excludes 0); `verdict`, in words; `undefined`, a dict of what
        has no interval and why; `examples`, `confidence`, `resamples`,
        `seed`.

    Raises:
        ValueError: the examples, their labels or their weights differ.

    Example:

    >>> import numpy as np, keras_cascade as kc
    >>> right = np.arange(100) % 4 > 0
    >>> knows = kc.evaluation.ExampleResults(
    ...     1.0 * right, right, np.ones(100, bool)
    ... )
    >>> guesses = kc.evaluation.ExampleResults(
    ...     np.arange(100) % 7 / 7, right, np.ones(100, bool)
    ... )
    >>> comparison = kc.evaluation.compare(knows, guesses, budgets=())
    >>> [row["differs"] for row in comparison["differences"]]
    [True, True]
    >>> kc.evaluation.compare(knows, knows, budgets=())["verdict"]
    'No difference shown: each of the 2 intervals (95 %) includes 0.'
    """
    check_plan(confidence, resamples)
    check_same_examples(one, other)
    rates = check_rates(budgets) if len(budgets) else np.empty(0)
    if thresholds is not None and len(thresholds) != 2:
        raise ValueError(
            "Expected two thresholds, one for each cascade. Received: "
            f"{thresholds!r}."
        )
    curves = [
        ResampledCurve(*columns, rates, threshold)
        for columns, threshold in zip(
            map(_columns, (one, other)), thresholds or (None, None), strict=True
        )
    ]
    measured = [
        _named(values, rates)
        for values in measure_resamples(curves, resamples, seed)
    ]
    exact = _exact_intervals((one, other), thresholds, rates, confidence)
    differences, undefined = [], {}
    for name in measured[0]:
        try:
            differences.append(
                _difference(
                    name,
                    measured[0][name],
                    measured[1][name],
                    confidence,
                    exact.get(name),
                )
            )
        except UndefinedMetricError as error:
            undefined[name] = str(error)
    return {
        "differences": differences,
        "verdict": _verdict(differences, names, confidence),
        "undefined": undefined,
        "examples": curves[0].examples,
        "confidence": float(confidence),
        "resamples": int(resamples),
        "seed": seed,
    }


def check_same_examples(one, other):
    """Raises unless two `ExampleResults` hold the same examples.

    Labels are compared in order where both have them; fingerprints tell only
    which examples there are.
    """
    if len(one) != len(other):
        raise ValueError(
            "Expected both cascades to be scored on the same examples. "
            f"Received: {len(one)} and {len(other)} examples."
        )
    prints = [
        None if results.examples is None else results.examples.hexdigest()
        for results in (one, other)
    ]
    if None not in prints and prints[0] != prints[1]:
        raise ValueError(
            "Expected both cascades to be scored on the same examples. "
            f"Received sets with fingerprints {prints[0][:12]}... and "
            f"{prints[1][:12]}...."
        )
    if not (
        one.labels is None
        or other.labels is None
        or np.array_equal(one.labels, other.labels)
    ):
        raise ValueError(
            "Expected both cascades to be scored on the same examples in the "
            "same order. Received labels that differ. Judge both without "
            "shuffling."
        )
    weights = [
        np.ones(len(results))
        if results.sample_weight is None
        else np.asarray(results.sample_weight)
        for results in (one, other)
    ]
    if not np.array_equal(*weights):
        raise ValueError(
            "Expected both cascades to be scored under the same traffic. "
            "Received sample weights that differ."
        )


def _columns(
    results: "ExampleResults",
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return with_weight(
        results.scores,
        results.student_correct,
        results.teacher_correct,
        results.sample_weight,
    )


def _named(values, budgets):
    """Returns one array per quantity, in the order of the report."""
    accuracies = values.pop("accuracy_at").T
    named = {name: values[name] for name in ("area", "score")}
    for budget, column in zip(budgets, accuracies, strict=True):
        named[f"accuracy_at_{budget:g}"] = column
    return {**named, **values}


def _exact_intervals(pair, thresholds, rates, confidence):
    """Dict of quantity to exact ends, where they are used; no weights.

    Args:
        pair: two `ExampleResults`.
        thresholds: pair of floats, or `None`.
        rates: float array, the budgets.
        confidence: float in (0, 1).
    """
    weights = [one.sample_weight for one in pair]
    if any(w is not None and np.ptp(w) > 0 for w in weights):
        return {}

    def differing(decisions):
        first, second = (np.asarray(d, dtype=bool) for d in decisions)
        return int((first & ~second).sum()), int((second & ~first).sum())

    def right(delegated):
        return [
            np.where(d, one.teacher_correct, one.student_correct)
            for one, d in zip(pair, delegated, strict=True)
        ]

    fractions = any(
        column.dtype != bool for one in pair for column in _columns(one)[1:3]
    )
    counts = {}
    for rate in () if fractions else rates:
        curves = [one.deferral_curve() for one in pair]
        delegated = [
            delegated_at(one.scores, curve.thresholds[curve.index_of(rate)])
            for one, curve in zip(pair, curves, strict=True)
        ]
        found = differing(right(delegated))
        if sum(found) < FEW:
            counts[f"accuracy_at_{rate:g}"] = found
    if thresholds is not None:
        delegated = [
            delegated_at(one.scores, threshold)
            for one, threshold in zip(pair, thresholds, strict=True)
        ]
        if not fractions:
            counts["accuracy"] = differing(right(delegated))
        counts["delegation_rate"] = differing(delegated)
    return {
        name: paired_difference_interval(*found, len(pair[0]), confidence)
        for name, found in counts.items()
    }


def _difference(name, one, other, confidence, exact=None):
    difference = one - other
    # Rounding must not look like a difference that every resample confirms.
    difference[np.abs(difference) < ROUNDING] = 0.0
    value, low, high = percentile_interval(
        difference, confidence, NO_BETTER_ORDER
    )
    if exact is not None and name.startswith("accuracy_at"):
        low, high = min(low, exact[0]), max(high, exact[1])
    elif exact is not None:
        low, high = exact
    return {
        "quantity": name,
        "one": float(one[0]),
        "other": float(other[0]),
        "difference": float(value),
        "low": float(low),
        "high": float(high),
        "differs": bool(low > 0 or high < 0),
    }


def _verdict(differences, names, confidence):
    level = f"{100 * confidence:g} %"
    shown = [row for row in differences if row["differs"]]
    if not shown:
        return (
            f"No difference shown: each of the {len(differences)} intervals "
            f"({level}) includes 0."
        )
    parts = []
    for row in shown:
        higher, lower = names if row["difference"] > 0 else names[::-1]
        quantity = row["quantity"]
        words = _WORDS.get(
            quantity,
            "accuracy at delegation rate "
            + quantity.removeprefix("accuracy_at_"),
        )
        parts.append(
            f"{higher} is above {lower} in {words} by "
            f"{abs(row['difference']):.4f}"
        )
    return (
        f"{'; '.join(parts)}. {len(differences) - len(shown)} of "
        f"{len(differences)} intervals ({level}, each on its own) include 0."
    )
