"""What people see, apart from what machines read."""

import contextlib
import json
import sys

from rich.console import Console
from rich.table import Table

#: Of a report, what is only for its page and its file.
LONG = ("slider", "summary", "mistakes")


def people():
    """A console on standard error, where it cannot mix with `--json`."""
    return Console(file=sys.stderr, highlight=False)


@contextlib.contextmanager
def waiting(what):
    """Tells people what takes long, on a terminal, until it is over.

    Args:
        what: str, such as `"Starting TensorFlow"`.
    """
    console = people()
    if not console.is_terminal:
        yield
        return
    with console.status(f"{what} ..."):
        yield


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


def show_point(point, costs, as_json, title):
    """Prints an operating point, its guarantees in words for people.

    Args:
        point: `OperatingPoint`.
        costs: `Costs`.
        as_json: bool.
        title: str.
    """
    from keras_cascade.calibration import deserialize
    from keras_cascade.calibration.guarantees import guarantee_sentence

    if as_json:
        show(point.to_dict(), as_json, title)
        return
    shown = {
        "objective": repr(deserialize(point.objective)),
        **{
            name: getattr(point, name)
            for name in (
                "threshold", "delegation_rate", "accuracy",
                "student_accuracy", "teacher_accuracy",
            )
        },
        f"cost ({costs.unit})": point.amortized_cost,
        "examples": point.examples,
        "guaranteed of new inputs": "\n".join(
            guarantee_sentence(one, costs.unit) for one in point.guarantees
        )
        or "nothing: pass --confidence",
    }  # fmt: skip
    show(shown, as_json, title)


def show_demo(report, output, as_json):
    """Prints the demo's table, and where its files are."""
    if as_json:
        short = {n: v for n, v in report.items() if n not in LONG}
        print(json.dumps(short, indent=2))
        return
    console = Console(highlight=False)
    console.print(
        _comparison(report["dataset"], report["rows"], report["costs"]["unit"])
    )
    console.print(
        f"{report['rows_from_edge']:,} rows answered on the edge, "
        f"{report['rows_from_cloud']:,} by the teacher over "
        f"{report['served_over'].upper()}; {report['decision_flips']} "
        "decisions differ from Keras."
    )
    # A path that is broken into lines cannot be copied.
    console.print(f"Report: {output / 'report.html'}", soft_wrap=True)
    console.print(f"Bundle: {output / 'bundle'}", soft_wrap=True)


def show_report(result, as_json):
    """Prints the main numbers of a report, and where it is."""
    if as_json:
        print(json.dumps(result, indent=2))
        return
    console = Console(highlight=False)
    console.print(
        _comparison(result["dataset"], result["rows"], result["unit"])
    )
    for sentence in result["guarantees"]:
        console.print(f"Guaranteed of new examples: {sentence}.", markup=False)
    if not result["guarantees"]:
        console.print("The threshold guarantees nothing about new examples.")
    console.print(f"Report: {result['report']}", markup=False, soft_wrap=True)


def _comparison(dataset, rows, unit):
    """A table of student, teacher and cascade."""
    table = Table(title=f"{dataset}, test split")
    table.add_column("")
    for column in ("accuracy", "delegation rate", f"cost ({unit})"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            row["name"],
            f"{row['accuracy']:.2%}",
            f"{row['delegation_rate']:.1%}",
            f"{row['cost']:.3f}",
        )
    return table


def show_checks(result, as_json, title):
    """Prints what `verify` looked at, one line a check."""
    if as_json:
        print(json.dumps(result, indent=2))
        return
    table = Table(title=title, show_header=False)
    for check in result["checks"]:
        verdict = "passed" if check["passed"] else "FAILED"
        table.add_row(check["name"], verdict, check["detail"])
    Console(highlight=False).print(table)


def show_bench(result, as_json):
    """Prints one line a part, batch size and number of threads."""
    if as_json:
        print(json.dumps(result, indent=2))
        return
    table = Table(title=result["bundle"])
    for column in ("part", "batch", "threads", "p50 ms", "p99 ms", "MB"):
        table.add_column(column, justify="right")
    for part in ("student", "teacher", "cascade"):
        for line in result.get(part, {}).get("latency_ms", ()):
            table.add_row(
                part, str(line["batch"]), str(line.get("threads", "-")),
                f"{line['p50']:.3f}", f"{line['p99']:.3f}",
                f"{result[part]['resident_mb']:.0f}",
            )  # fmt: skip
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"Student file {result['student_bytes']:,} bytes. MB: resident, in a "
        "process of its own; student and cascade without TensorFlow, the "
        "cascade's teacher served over HTTP."
    )


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
