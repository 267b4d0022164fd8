"""A report of random examples, for the tests of its files and its page."""

import numpy as np

from keras_cascade.calibration import SimultaneousBounds
from keras_cascade.evaluation import Costs, ExampleResults
from keras_cascade.evaluation.report.numbers import report_numbers

COSTS = Costs(0.0625, 1.0, "teacher passes", "given <by hand>")
NASTY = "<script>alert('class')</script>"
NAMES = ["a", "b & c", NASTY, "d"]
GUARANTEES = [
    {"quantity": "accuracy_drop", "at_most": 0.05, "confidence": 0.9},
    {"quantity": "delegation_rate", "at_most": 0.6, "confidence": 0.9},
]


def example_results(rows=500, seed=0, weighted=False):
    """`ExampleResults` whose score says something about the student."""
    rng = np.random.default_rng(seed)
    scores = rng.random(rows).astype("float32")
    labels = rng.integers(0, len(NAMES), rows)
    student = rng.random(rows) < 0.4 + 0.6 * scores
    teacher = rng.random(rows) < 0.95
    wrong = (labels + 1) % len(NAMES)
    return ExampleResults(
        scores,
        student,
        teacher,
        sample_weight=rng.choice([0.0, 1.0, 3.0], rows) if weighted else None,
        labels=labels,
        student_labels=np.where(student, labels, wrong),
        teacher_labels=np.where(teacher, labels, wrong),
        student_confidence=0.25 + 0.75 * scores,
    )


def bounds_of(calibration):
    """`SimultaneousBounds` of scored examples."""
    return SimultaneousBounds(
        calibration.scores,
        calibration.student_correct,
        calibration.teacher_correct,
        calibration.sample_weight,
        confidence=0.9,
    )


def operating_point(threshold=0.5, guarantees=GUARANTEES):
    """Fields of an `OperatingPoint` that a report needs, as a dict."""
    return {
        "threshold": float(np.float32(threshold)),
        "objective": None,
        "guarantees": guarantees,
        "examples": 600,
        "effective_examples": 600.0,
    }


def report_of(results, point=None, bounds=None, **changes):
    """Report dict for `write_report`."""
    point = point or operating_point()
    return {
        "title": "example",
        "dataset": "random",
        "splits": {"train": 9, "calibration": 600, "test": 500, "how": "-"},
        **report_numbers(results, point, COSTS, NAMES, bounds, resamples=50),
        "guarantees": [
            f"guarantee {n}" for n in range(len(point["guarantees"]))
        ],
        "traffic": None,
        "fingerprints": [
            {"what": "report", "examples": 500, "sha256": "ab" * 32}
        ],
        "weights": {"teacher": "cd" * 32, "student": "ef" * 32},
        "versions": {"keras": "3"},
        "facts": {"Gate": "MarginGate"},
        **changes,
    }
