"""The report's table of metrics: names, numbers and gaps in words."""

from decimal import ROUND_HALF_UP, Decimal


def fixed(value, decimals):
    """A number with so many decimals, rounded as JavaScript's `toFixed`.

    Half is rounded away from zero, so that a page shows the same digits with
    and without its script.

    Example:

    >>> from keras_cascade.evaluation.report.metrics import fixed
    >>> fixed(0.125, 2), f"{0.125:.2f}"
    ('0.13', '0.12')
    """
    step = Decimal(1).scaleb(-decimals)
    return f"{Decimal(value).quantize(step, ROUND_HALF_UP):f}"


def percent(share, decimals=2):
    """A share in percent.

    Example:

    >>> from keras_cascade.evaluation.report.metrics import percent
    >>> percent(0.97125)
    '97.13 %'
    """
    return f"{fixed(100 * share, decimals)} %"


def metric_rows(summary, costs, cost_decimals):
    """What the table of metrics shows.

    Args:
        summary: dict, as `summarize` returns it.
        costs: dict of a `Costs`.
        cost_decimals: int, decimals of costs.

    Returns:
        List of dicts of str: `name`, `value`, `interval` (empty where the
        bootstrap gives none) and `meaning`.
    """
    undefined = summary["undefined"]
    bootstrap = summary["bootstrap"] or {}
    deferral, risk, auroc = (
        summary[name] for name in ("deferral", "selective_risk", "auroc")
    )
    found = summary["at_threshold"]

    def row(name, meaning, value, path="", resampled="", shown=_number):
        interval = bootstrap.get(resampled)
        return {
            "name": name,
            "meaning": meaning,
            "value": (
                f"undefined: {undefined[path]}"
                if value is None
                else shown(value)
            ),
            "interval": (
                f"{shown(interval['low'])} to {shown(interval['high'])}"
                if interval
                else ""
            ),
        }

    calibration = summary["calibration"] or {"ece": None}
    rows = [
        row(
            "Cascade accuracy", "at the calibrated threshold",
            found["accuracy"], resampled="accuracy", shown=percent,
        ),
        row(
            "Delegation rate", "at the calibrated threshold",
            found["delegation_rate"], resampled="delegation_rate",
            shown=percent,
        ),
        row(
            "Deferral score", "0: delegated at random, 1: as well as possible",
            deferral["score"], "deferral.score", "score",
        ),
        row(
            "Area under the deferral curve",
            f"at random {_number(deferral['random_area'])}, ideal "
            f"{_number(deferral['ideal_area'])}",
            deferral["area"], resampled="area",
        ),
        row(
            "AUROC, student right", "does the score find its mistakes?",
            auroc["student_right"], "auroc.student_right",
        ),
        row(
            "AUROC, delegating helps",
            "does it find the mistakes that the teacher mends?",
            auroc["delegating_helps"], "auroc.delegating_helps",
        ),
        row("AURC", "mean risk of what is kept, lower is better", risk["aurc"]),
        row("AUGRC", "the same, counted over all examples", risk["augrc"]),
        row(
            "ECE", "gap between the student's confidence and its accuracy",
            calibration["ece"], "calibration",
        ),
    ]  # fmt: skip
    for goal in summary["reach_teacher"]:
        cost = fixed(goal["amortized_cost"], cost_decimals)
        rows.append(
            {
                "name": f"Cost to reach {100 * goal['share']:g} % of the "
                "teacher's accuracy",
                "meaning": f"{percent(goal['accuracy'])} accurate, with "
                f"{percent(goal['delegation_rate'])} delegated",
                "value": f"{cost} {costs['unit']}",
                "interval": "",
            }
        )
    return rows


def _number(value):
    return fixed(value, 4)
