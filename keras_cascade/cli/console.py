"""What people see, apart from what machines read."""

import json
import sys

from rich.console import Console
from rich.table import Table


def people():
    """A console on standard error, where it cannot mix with `--json`."""
    return Console(file=sys.stderr, highlight=False)


def show(result, as_json, title):
    """Prints a flat dict: as JSON for machines, as a table for people."""
    if as_json:
        print(json.dumps(result, indent=2))
        return
    table = Table(title=title, show_header=False)
    for name, value in result.items():
        text = f"{value:.4f}" if isinstance(value, float) else str(value)
        table.add_row(name, text)
    Console(highlight=False).print(table)


def show_demo(report, output, as_json):
    """Prints the demo's table, and where its files are."""
    if as_json:
        print(json.dumps(report, indent=2))
        return
    unit = report["costs"]["unit"]
    table = Table(title=f"{report['dataset']}, test split")
    table.add_column("")
    for column in ("accuracy", "delegation rate", f"cost ({unit})"):
        table.add_column(column, justify="right")
    for row in report["rows"]:
        table.add_row(
            row["name"],
            f"{row['accuracy']:.2%}",
            f"{row['delegation_rate']:.1%}",
            f"{row['cost']:.3f}",
        )
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"{report['rows_from_edge']:,} rows answered on the edge, "
        f"{report['rows_from_cloud']:,} by the teacher over "
        f"{report['served_over'].upper()}; {report['decision_flips']} "
        "decisions differ from Keras."
    )
    console.print(f"Report: {output / 'report.html'}")
    console.print(f"Bundle: {output / 'bundle'}")


def show_prediction(prediction, as_json):
    """Prints one line a row."""
    rows = [
        {
            "label": int(label),
            "name": name,
            "probability": float(probabilities.max()),
            "score": float(score),
            "source": str(source),
        }
        for label, name, probabilities, score, source in zip(
            prediction.labels,
            prediction.names,
            prediction.probabilities,
            prediction.score,
            prediction.source,
            strict=True,
        )
    ]
    error = prediction.teacher_error
    if as_json:
        print(json.dumps({"rows": rows, "teacher_error": error}, indent=2))
        return
    table = Table(*rows[0])
    for row in rows:
        table.add_row(
            str(row["label"]), str(row["name"]), f"{row['probability']:.4f}",
            f"{row['score']:.4f}", row["source"],
        )  # fmt: skip
    Console(highlight=False).print(table)
    if error is not None:
        people().print(f"Teacher: {error}")
