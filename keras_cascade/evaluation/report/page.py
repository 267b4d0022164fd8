"""Files of a report: JSON, a chart and one self-contained HTML page."""

import base64
import hashlib
import importlib.resources
import json
import os
import tempfile
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import markupsafe
import numpy as np

from keras_cascade.evaluation.plots import plot_deferral_curve
from keras_cascade.evaluation.report.charts import (
    cost_decimals,
    report_charts,
    threshold_decimals,
)

if TYPE_CHECKING:
    from keras_cascade.evaluation.deferral_curve import DeferralCurve
    from keras_cascade.evaluation.example_results import ExampleResults

CURVE_POINTS = 201
#: Classes that the page lists, at most.
MOST_CLASSES = 200
FILES = ("report.json", "deferral_curve.png", "report.html")


def write_report(
    folder: str | os.PathLike,
    report: dict[str, Any],
    results: "ExampleResults",
    shown: Sequence[dict[str, str]] = (),
) -> Path:
    """Writes `report.json`, `deferral_curve.png` and `report.html`.

    The page needs no network. Each file appears whole or not at all.

    Args:
        folder: existing folder to write into.
        report: dict of JSON-compatible values: those of `report_numbers`,
            and `title`; `dataset`; `splits` (sizes by name, and `how`);
            `guarantees` (list of str, one for each of the operating point's);
            `traffic` (str, or `None`); `fingerprints` (list of dicts of
            `what`, `examples` and `sha256`); `weights` (dict of model to
            SHA-256); `versions` (dict of package to version); `facts` (dict
            of what else to list).
        results: `ExampleResults`, the test examples.
        shown: list of dicts, the input of each mistake, as `picture_or_text`
            returns it. Defaults to none.

    Returns:
        `Path` of `report.html`.
    """
    target = Path(folder)
    curve = results.deferral_curve()
    text = json.dumps(
        {**report, "deferral_curve": sampled(curve)}, indent=2, allow_nan=False
    )
    page = render_page(report, list(shown))
    with tempfile.TemporaryDirectory(dir=target) as temporary:
        part = Path(temporary)
        (part / "report.json").write_text(text + "\n", encoding="utf-8")
        (part / "report.html").write_text(page, encoding="utf-8")
        plot_deferral_curve(
            curve,
            part / "deferral_curve.png",
            f"{report['dataset']}: {curve.examples:,} test examples",
            (report["delegation_rate"], report["cascade_accuracy"]),
        )
        for name in FILES:
            os.replace(part / name, target / name)
    return target / "report.html"


def sampled(
    curve: "DeferralCurve", points: int = CURVE_POINTS
) -> dict[str, list[float]]:
    """Deferral curve at evenly spread candidates, both ends included."""
    count = len(curve.thresholds)
    index = np.unique(np.linspace(0, count - 1, points).round().astype(int))
    return {
        "delegation_rate": curve.delegation_rate[index].tolist(),
        "accuracy": curve.accuracy[index].tolist(),
    }


def render_page(report, shown):
    """Renders a report as one HTML page.

    Style and script are inside it; a content security policy keeps the
    browser from loading anything, and from running any other script.

    Args:
        report: dict, as `write_report` takes it.
        shown: list of dicts, as `write_report` takes it.

    Returns:
        str, HTML.
    """
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_source),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(fixed=fixed, percent=percent)
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False}
    decimals = cost_decimals(report["costs"])
    script = _source("page.js")
    names = report["class_names"]
    digest = hashlib.sha256(script.encode()).digest()
    return environment.get_template("page.html.jinja").render(
        **report,
        charts=report_charts(report["summary"], report["slider"]),
        metrics=metric_rows(report["summary"], report["costs"], decimals),
        cost_decimals=decimals,
        threshold_decimals=threshold_decimals(report["slider"]["threshold"]),
        class_rows=class_rows(report["summary"]["per_class"]),
        class_name=lambda number: (
            names[number] if number < len(names) else str(number)
        ),
        shown=shown,
        style=markupsafe.Markup(_source("page.css")),
        script=markupsafe.Markup(script),
        script_sha256=base64.b64encode(digest).decode(),
    )


def fixed(value, decimals):
    """Number with fixed decimals, rounded as JavaScript's `toFixed` does.

    Half is rounded away from zero, so that a page shows the same digits with
    and without its script.

    Example:

    >>> from keras_cascade.evaluation.report.page import fixed
    >>> fixed(0.125, 2), f"{0.125:.2f}"
    ('0.13', '0.12')
    """
    step = Decimal(1).scaleb(-decimals)
    return f"{Decimal(value).quantize(step, ROUND_HALF_UP):f}"


def percent(share, decimals=2):
    """Share as a percentage.

    Example:

    >>> from keras_cascade.evaluation.report.page import percent
    >>> percent(0.97125)
    '97.13 %'
    """
    return f"{fixed(100 * share, decimals)} %"


def class_rows(table, most=MOST_CLASSES):
    """Rows of the table of classes: all, or those with the most mistakes.

    Args:
        table: list of dicts, as `per_class` returns it, or `None`.
        most: int, the largest number of rows. Defaults to `200`.

    Returns:
        List of dicts, by ascending class; of too many classes those where
        the cascade (without a threshold, the student) loses most weight.

    Example:

    >>> from keras_cascade.evaluation import per_class
    >>> from keras_cascade.evaluation.report.page import class_rows
    >>> table = per_class([0, 1, 2, 2], [1, 0, 0, 0], [1, 1, 1, 1])
    >>> [row["class"] for row in class_rows(table, most=1)]
    [2]
    """
    if table is None or len(table) <= most:
        return table or []

    def lost(row):
        accuracy = row["cascade_accuracy"]
        accuracy = row["student_accuracy"] if accuracy is None else accuracy
        return row["share"] * (1.0 - (1.0 if accuracy is None else accuracy))

    rows = sorted(table, key=lost, reverse=True)[:most]
    return sorted(rows, key=lambda row: row["class"])


def metric_rows(summary, costs, cost_decimals):
    """Rows of the table of metrics.

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
    at_threshold = summary["at_threshold"]

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
            at_threshold["accuracy"], resampled="accuracy", shown=percent,
        ),
        row(
            "Delegation rate", "at the calibrated threshold",
            at_threshold["delegation_rate"], resampled="delegation_rate",
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


def _source(name):
    file = importlib.resources.files(__package__).joinpath(name)
    return file.read_text(encoding="utf-8")


def _number(value):
    return fixed(value, 4)
