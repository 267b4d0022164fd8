"""The summary joins what its parts measure, as JSON, on any examples."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_cascade import evaluation
from keras_cascade.evaluation import Costs, ExampleResults, summarize
from tests.helpers.example_columns import columns

COSTS = Costs(0.1, 1.0, "teacher passes", "given")


def paths(value, path=""):
    """Dotted path of every `None`; a list's items share its path."""
    if value is None:
        yield path
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from paths(inner, f"{path}.{name}".lstrip("."))
    elif isinstance(value, list):
        for inner in value:
            yield from paths(inner, path)


def explained(path, undefined):
    """Returns true if a reason is given for a `None`."""
    return (
        any(
            path == known or path.startswith(f"{known}.") for known in undefined
        )
        or (path.endswith("amortized_cost") and "amortized_cost" in undefined)
        # An empty bin has weight 0 beside it.
        or path.startswith("calibration.reliability.")
    )


@given(columns(), st.data())
@settings(max_examples=100, deadline=None)
def test_every_summary_is_json_and_explains_its_gaps(case, data):
    scores, student, teacher, weight = case
    rows = len(scores)
    known = data.draw(st.booleans())
    results = ExampleResults(
        scores.astype(data.draw(st.sampled_from(["float32", "float64"]))),
        student,
        teacher,
        weight,
        labels=np.arange(rows) % 3 if known else None,
        student_confidence=np.linspace(0, 1, rows) if known else None,
    )
    threshold = data.draw(st.sampled_from([None, -20.0, 0.3, 20.0]))
    costs = data.draw(st.sampled_from([None, COSTS]))
    summary = summarize(results, threshold, costs, resamples=40)
    json.dumps(summary, allow_nan=False)
    undefined = summary["undefined"]
    assert all(isinstance(reason, str) for reason in undefined.values())
    gaps = set(paths({k: v for k, v in summary.items() if k != "undefined"}))
    gaps.discard("threshold")
    # Without a threshold, a class has no cascade accuracy either.
    if threshold is None:
        assert "at_threshold" in undefined
        gaps -= {"per_class.cascade_accuracy", "per_class.delegation_rate"}
    if "per_class.accuracy" in undefined:
        gaps = {g for g in gaps if not g.startswith("per_class.")}
    assert {gap for gap in gaps if not explained(gap, undefined)} == set()


def test_the_numbers_are_those_of_the_parts():
    rng = np.random.default_rng(0)
    n = 400
    confidence = rng.random(n)
    weight = rng.choice([1.0, 5.0], n)
    case = (
        confidence.round(2),
        rng.random(n) < 0.3 + 0.6 * confidence,
        rng.random(n) < 0.9,
        weight,
    )
    scores, student, teacher, _ = case
    labels = rng.integers(0, 4, n)
    results = ExampleResults(
        *case, labels=labels, student_confidence=confidence
    )
    summary = summarize(results, 0.5, COSTS, 0.9, 100, seed=4)
    curve = evaluation.deferral_curve(*case)
    delegated = scores < 0.5

    def mean(values, among=slice(None)):
        return pytest.approx(np.average(values[among], weights=weight[among]))

    assert summary["examples"] == n
    assert summary["effective_examples"] == pytest.approx(
        weight.sum() ** 2 / (weight**2).sum()
    )
    assert summary["student_accuracy"] == mean(student)
    assert summary["teacher_accuracy"] == mean(teacher)
    point = summary["at_threshold"]
    assert point["accuracy"] == mean(np.where(delegated, teacher, student))
    assert point["delegation_rate"] == mean(delegated)
    assert point["amortized_cost"] == pytest.approx(
        0.1 + point["delegation_rate"]
    )
    assert point["accuracy_drop"] == pytest.approx(
        summary["teacher_accuracy"] - point["accuracy"]
    )
    assert point["student_accuracy_accepted"] == mean(student, ~delegated)
    assert point["teacher_accuracy_accepted"] == mean(teacher, ~delegated)
    assert point["student_accuracy_delegated"] == mean(student, delegated)
    assert point["teacher_accuracy_delegated"] == mean(teacher, delegated)
    deferral = summary["deferral"]
    assert deferral["score"] == pytest.approx(
        (deferral["area"] - deferral["random_area"])
        / (deferral["ideal_area"] - deferral["random_area"])
    )
    ideal = evaluation.oracle_curve(student, teacher, weight)
    assert summary["ideal_curve"]["accuracy"] == ideal.accuracy.tolist()
    for row in summary["budgets"]:
        # The highest rate that any threshold attains within the budget.
        below = [
            scores < t
            for t in [*np.unique(scores), np.inf]
            if np.average(scores < t, weights=weight) <= row["budget"] + 1e-12
        ]
        best = max(below, key=lambda d: d.sum())
        assert row["delegation_rate"] == mean(best)
        assert row["accuracy"] == mean(np.where(best, teacher, student))
        assert row["amortized_cost"] == pytest.approx(
            0.1 + row["delegation_rate"]
        )
    for row in summary["reach_teacher"]:
        goal = row["share"] * curve.teacher_accuracy
        reached = curve.accuracy >= goal - 1e-12
        assert row["delegation_rate"] == curve.delegation_rate[reached].min()
    assert summary["selective_risk"] == {
        "aurc": evaluation.aurc(scores, student, weight),
        "augrc": evaluation.augrc(scores, student, weight),
    }
    assert summary["auroc"] == {
        "student_right": evaluation.auroc_student_right(
            scores, student, weight
        ),
        "delegating_helps": evaluation.auroc_delegating_helps(*case),
    }
    error = evaluation.expected_calibration_error(confidence, student, weight)
    assert summary["calibration"]["ece"] == error
    table = evaluation.per_class(labels, student, teacher, delegated, weight)
    assert summary["per_class"] == table
    assert summary["worst_class"]["cascade"]["accuracy"] == min(
        row["cascade_accuracy"] for row in table
    )
    expected = evaluation.bootstrap_curve(
        *case, 0.5, confidence=0.9, resamples=100, seed=4
    )
    assert expected.pop("undefined") == {}
    assert summary["bootstrap"] == expected
    assert summary["undefined"] == {}


def test_selective_accuracy_is_thinned_and_keeps_its_ends():
    scores = np.arange(1000.0)
    correct = scores > 300
    summary = summarize(ExampleResults(scores, correct, correct), resamples=0)
    section = summary["selective_accuracy"]
    assert len(section["thresholds"]) == 201
    assert section["coverage"][0] == 1.0
    assert section["coverage"][-1] == pytest.approx(1 / 1000)


def test_no_resamples_on_request():
    summary = summarize(ExampleResults([0.1, 0.2], [1, 0], [1, 1]), resamples=0)
    assert summary["bootstrap"] is None
    assert summary["undefined"]["bootstrap"] == "no resamples are asked for"


@pytest.mark.parametrize(
    ("results", "options", "message"),
    [
        (ExampleResults([], [], []), {}, "at least one example"),
        (ExampleResults([np.nan], [1], [1]), {}, "NaN or infinity"),
        (ExampleResults([0.1, 0.2], [1], [1, 1]), {}, "equally long"),
        (
            ExampleResults([0.1], [1], [1]),
            {"threshold": np.nan},
            "finite threshold",
        ),
        (ExampleResults([0.1], [1], [1]), {"resamples": 5}, "at least 40"),
        (
            ExampleResults([0.1], [1], [1], labels=[0, 1]),
            {},
            "student_correct to hold one value for each of 2",
        ),
        (
            ExampleResults([0.1], [1], [1], student_confidence=[7.0]),
            {},
            "not logits",
        ),
    ],
)
def test_bad_input(results, options, message):
    with pytest.raises(ValueError, match=message):
        summarize(results, **options)


def test_the_folder_loads_nothing_heavy():
    code = (
        "import sys, keras_cascade as kc; "
        "kc.evaluation.costs_from_flops; "
        "print(sorted({'keras', 'matplotlib', 'scipy', 'sklearn', "
        "'tensorflow'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
