"""A report as JSON, a picture and one self-contained page."""

import json
import os
import tempfile
from pathlib import Path

import numpy as np

from keras_cascade.evaluation.plots import plot_deferral_curve
from keras_cascade.evaluation.report.page import render_page

CURVE_POINTS = 201
FILES = ("report.json", "deferral_curve.png", "report.html")


def write_report(folder, report, results, shown=()):
    """Writes `report.json`, `deferral_curve.png` and `report.html`.

    The page needs no network. Each file is written whole or not at all.

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
        shown: list of dicts, how to show the input of each mistake, as
            `picture_or_text` returns them. Defaults to none.

    Returns:
        `Path` of `report.html`.
    """
    folder = Path(folder)
    curve = results.deferral_curve()
    text = json.dumps(
        {**report, "deferral_curve": sampled(curve)}, indent=2, allow_nan=False
    )
    page = render_page(report, list(shown))
    with tempfile.TemporaryDirectory(dir=folder) as part:
        part = Path(part)
        (part / "report.json").write_text(text + "\n", encoding="utf-8")
        (part / "report.html").write_text(page, encoding="utf-8")
        plot_deferral_curve(
            curve,
            part / "deferral_curve.png",
            f"{report['dataset']}: {curve.examples:,} test examples",
            (report["delegation_rate"], report["cascade_accuracy"]),
        )
        for name in FILES:
            os.replace(part / name, folder / name)
    return folder / "report.html"


def sampled(curve, points=CURVE_POINTS):
    """The curve at evenly spread candidates, both ends included."""
    count = len(curve.thresholds)
    index = np.unique(np.linspace(0, count - 1, points).round().astype(int))
    return {
        "delegation_rate": curve.delegation_rate[index].tolist(),
        "accuracy": curve.accuracy[index].tolist(),
    }
