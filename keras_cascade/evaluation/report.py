"""A report as JSON, a picture and one self-contained page."""

import base64
import importlib.resources
import json
from pathlib import Path

import jinja2
import numpy as np

from keras_cascade.evaluation.plots import plot_deferral_curve

CURVE_POINTS = 201


def write_report(folder, report, curve):
    """Writes `report.json`, `deferral_curve.png` and `report.html`.

    The page needs no network: the picture is inside it.

    Args:
        folder: existing folder to write into.
        report: dict of JSON-compatible values. The page shows `title`,
            `dataset`, `splits`, `rows` (list of dicts with `name`,
            `accuracy`, `delegation_rate`, `cost`), `costs` and `facts` (dict
            of what to list below).
        curve: `DeferralCurve` on the test split.

    Returns:
        `Path` of `report.html`.
    """
    folder = Path(folder)
    picture = folder / "deferral_curve.png"
    plot_deferral_curve(
        curve,
        picture,
        f"{report['dataset']}: {curve.examples:,} test examples",
        (report["delegation_rate"], report["cascade_accuracy"]),
    )
    text = json.dumps(
        {**report, "deferral_curve": sampled(curve)}, indent=2, allow_nan=False
    )
    (folder / "report.json").write_text(text + "\n", encoding="utf-8")
    template = importlib.resources.files(__package__).joinpath(
        "report.html.jinja"
    )
    page = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined
    ).from_string(template.read_text(encoding="utf-8"))
    html = folder / "report.html"
    html.write_text(
        page.render(
            **report,
            picture=base64.b64encode(picture.read_bytes()).decode(),
        ),
        encoding="utf-8",
    )
    return html


def sampled(curve, points=CURVE_POINTS):
    """The curve at evenly spread candidates, both ends included."""
    count = len(curve.thresholds)
    index = np.unique(np.linspace(0, count - 1, points).round().astype(int))
    return {
        "delegation_rate": curve.delegation_rate[index].tolist(),
        "accuracy": curve.accuracy[index].tolist(),
    }
