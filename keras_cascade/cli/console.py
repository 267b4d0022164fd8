"""Terminal output: tables for people, JSON for machines."""

import contextlib
import json
import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

#: Keys of a report that only its page and its file show.
PAGE_ONLY = ("slider", "summary", "mistakes")
#: Thresholds of classes that a table lists.
MOST_THRESHOLDS = 30


def stdout_console():
    """Returns a console that prints every text as it is."""
    # A class may be called "[red]" or ":smile:", and so may a file.
    return Console(highlight=False, markup=False, emoji=False)


def stderr_console():
    """Returns one on standard error, apart from `--json`'s output."""
    return Console(file=sys.stderr, highlight=False, markup=False, emoji=False)


@contextlib.contextmanager
def spinner(activity):
    """Shows a spinner for the duration of a `with` block, on a terminal.

    Args:
        activity: str, such as `"Starting TensorFlow"`.
    """
    console = stderr_console()
    if not console.is_terminal:
        yield
        return
    with console.status(Text(f"{activity} ...")):
        yield


def show(result, as_json, title):
    """Prints a flat dict, as JSON or as a table."""
    if as_json:
        print(json.dumps(result, indent=2))
        return
    table = Table(title=title, show_header=False)
    for name, value in result.items():
        text = f"{value:.4f}" if isinstance(value, float) else str(value)
        table.add_row(name, text)
    stdout_console().print(table)


def show_point(point, costs, as_json, title):
    """Prints an operating point, as JSON or as a table.

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
    rows = {
        "objective": repr(deserialize(point.objective)),
        "threshold": point.threshold,
        "delegation_rate": point.delegation_rate,
        **_measured(point),
        f"cost ({costs.unit})": point.amortized_cost,
        **(
            {
                "thresholds of predicted classes": _thresholds(
                    point.class_thresholds
                )
            }
            if point.class_thresholds
            else {}
        ),
        "examples": point.examples,
        "guaranteed of new inputs": "\n".join(
            guarantee_sentence(one, costs.unit, point.loss_name)
            for one in point.guarantees
        )
        or "nothing: pass --confidence",
    }  # fmt: skip
    show(rows, as_json, title)


def _measured(point):
    """Accuracies of an operating point by name, or losses that have one."""
    accuracies = {
        name: getattr(point, name)
        for name in ("accuracy", "student_accuracy", "teacher_accuracy")
    }
    if point.loss_name is None:
        return accuracies
    return {
        name.replace("_", " ").replace("accuracy", point.loss_name): 1 - value
        for name, value in accuracies.items()
    }


def _thresholds(values):
    """Thresholds in words; of many classes the ends and the number."""
    if len(values) <= MOST_THRESHOLDS:
        return ", ".join(f"{one:.4g}" for one in values)
    return (
        f"{min(values):.4g} to {max(values):.4g}, {len(set(values)):,} "
        f"different ones of {len(values):,} classes"
    )


def show_demo(report, output, as_json):
    """Prints the demo's table and the paths of its files."""
    if as_json:
        numbers = {n: v for n, v in report.items() if n not in PAGE_ONLY}
        print(json.dumps(numbers, indent=2))
        return
    console = stdout_console()
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
    """Prints the main numbers of a report and its path."""
    if as_json:
        print(json.dumps(result, indent=2))
        return
    console = stdout_console()
    console.print(
        _comparison(result["dataset"], result["rows"], result["unit"])
    )
    for sentence in result["guarantees"]:
        console.print(f"Guaranteed of new examples: {sentence}.")
    if not result["guarantees"]:
        console.print("The threshold guarantees nothing about new examples.")
    console.print(f"Report: {result['report']}", soft_wrap=True)


def _comparison(dataset, rows, unit):
    """Returns a table of student, teacher and cascade."""
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
    """Prints the result of `verify`, one line per check."""
    if as_json:
        print(json.dumps(result, indent=2))
        return
    table = Table(title=title, show_header=False)
    for check in result["checks"]:
        verdict = "passed" if check["passed"] else "FAILED"
        table.add_row(check["name"], verdict, check["detail"])
    console = stdout_console()
    console.print(table)
    # A hash that is broken into lines cannot be copied.
    console.print(
        f"manifest.json SHA-256: {result['manifest_sha256']}", soft_wrap=True
    )


def show_signature(result, as_json):
    """Prints the result of `sign`, one line per value."""
    if as_json:
        print(json.dumps(result, indent=2))
        return
    console = stdout_console()
    for name, value in result.items():
        # Paths and hashes that are broken into lines cannot be copied.
        console.print(f"{name}: {value}", soft_wrap=True)


def show_bench(result, as_json):
    """Prints latencies per part, batch size and number of threads."""
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
    console = stdout_console()
    console.print(table)
    console.print(
        f"Student file {result['student_bytes']:,} bytes. MB: resident, in a "
        "process of its own; student and cascade without TensorFlow, the "
        "cascade's teacher served over HTTP."
    )
    if "no_teacher" in result:
        console.print(
            f"The student alone was timed. {result['no_teacher']}",
            markup=False,
        )


def show_prediction(prediction, as_json):
    """Prints the predictions, one line per row."""
    if prediction.labels.ndim > 1:
        _show_task_prediction(prediction, as_json)
        return
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
    stdout_console().print(table)
    if error is not None:
        stderr_console().print(f"Teacher: {error}")


def _show_task_prediction(prediction, as_json):
    """Prints the answers of a task that is not one class per example."""
    answers, of_values = prediction.probabilities, prediction.values is not None
    if of_values:
        answers = prediction.values
    rows = []
    for index, names in enumerate(prediction.names):
        row = {
            "score": float(prediction.score[index]),
            "source": str(prediction.source[index]),
        }
        if answers.ndim > 2:  # several axes: too long for a line
            shape = " x ".join(map(str, answers.shape[1:]))
            labels = prediction.labels[index].tolist() if as_json else shape
            rows.append({"labels": labels, **row})
            continue
        numbers = dict(
            zip(prediction.classes, answers[index].tolist(), strict=True)
        )
        name = "values" if of_values else "probabilities"
        labels = {} if of_values else {"labels": names}
        rows.append({**labels, name: numbers, **row})
    error = prediction.teacher_error
    if as_json:
        print(json.dumps({"rows": rows, "teacher_error": error}, indent=2))
        return
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(_in_words(value) for value in row.values()))
    stdout_console().print(table)
    if error is not None:
        stderr_console().print(f"Teacher: {error}")


def _in_words(value):
    if isinstance(value, dict):
        return ", ".join(f"{name} {one:.4g}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(value)
    return f"{value:.4f}" if isinstance(value, float) else str(value)
