"""Renders a report as one page that needs nothing else."""

import base64
import hashlib
import importlib.resources

import jinja2
import markupsafe

from keras_cascade.evaluation.report.charts import (
    cost_decimals,
    report_charts,
    threshold_decimals,
)
from keras_cascade.evaluation.report.metrics import (
    fixed,
    metric_rows,
    percent,
)


def render_page(report, shown):
    """The page of a report.

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
        class_name=lambda n: names[n] if n < len(names) else str(n),
        shown=shown,
        style=markupsafe.Markup(_source("page.css")),
        script=markupsafe.Markup(script),
        script_sha256=base64.b64encode(digest).decode(),
    )


def _source(name):
    file = importlib.resources.files(__package__).joinpath(name)
    return file.read_text(encoding="utf-8")
