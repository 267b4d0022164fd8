"""Texts of users print as they are, whatever rich would make of them."""

import numpy as np
import pytest

from keras_cascade.cli import console
from keras_cascade.runtime import EdgePrediction

#: Markup, an emoji's code, a link, an unbalanced tag, an escaped one.
NAMES = ["[red]", "[/]", ":smile:", "[link=x]a[/link]", "\\[bold]", "[a"]


def prediction(names):
    rows = len(names)
    return EdgePrediction(
        labels=np.arange(rows),
        probabilities=np.eye(rows, dtype="float32"),
        score=np.zeros(rows, "float32"),
        source=np.full(rows, "edge"),
        classes=names,
        teacher_error="; ".join(names),
    )


def test_class_names_and_errors_of_a_prediction(capsys):
    console.show_prediction(prediction(NAMES), as_json=False)
    printed = capsys.readouterr()
    for name in NAMES:
        assert name in printed.out
        assert name in printed.err


@pytest.mark.parametrize("name", NAMES)
def test_every_table(capsys, name):
    rows = [{"name": name, "accuracy": 1, "delegation_rate": 1, "cost": 1}]
    console.show({name: name}, False, name)
    console.show_checks(
        {
            "checks": [{"name": name, "passed": True, "detail": name}],
            "manifest_sha256": 64 * "0",
        },
        False,
        name,
    )
    console.show_report(
        {
            "dataset": name, "rows": rows, "unit": name, "report": name,
            "guarantees": [name],
        },
        False,
    )  # fmt: skip
    console.show_bench(
        {
            "bundle": name,
            "student_bytes": 1,
            "student": {
                "latency_ms": [{"batch": 1, "p50": 1, "p99": 1}],
                "resident_mb": 1,
            },
        },
        False,
    )
    # Twice in `show`, and in its title; three times in `show_checks`; data
    # set, unit, row, guarantee and path of the report; the bundle.
    printed = capsys.readouterr().out
    assert printed.count(name) >= 3 + 3 + 4 + 1


def test_a_spinner_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with console.spinner("Answering [red]"):
        pass
    assert "[red]" in capsys.readouterr().err


def test_thresholds_of_many_classes():
    few = console._thresholds([0.5, 0.25])
    assert few == "0.5, 0.25"
    many = console._thresholds([0.25] * 2_000 + [0.75] * 1_000)
    assert many == "0.25 to 0.75, 2 different ones of 3,000 classes"
