"""The arithmetic of `benchmarks.export`, on numbers done by hand."""

import numpy as np
import pytest

from benchmarks.export_findings import GAINS, paired, targets
from benchmarks.export_students import accuracy_at, against_float32


def test_accuracy_at_a_rate_between_two_thresholds():
    score = np.array([0.0, 0.0, 1.0, 1.0])
    student = np.array([False, True, True, True])
    teacher = np.array([True, True, True, False])
    # One of the two that tie is delegated: 4 right, or 3; the mean is 3.5.
    assert accuracy_at(0.25, score, student, teacher) == pytest.approx(0.875)
    assert accuracy_at(0.5, score, student, teacher) == 1.0
    # The last is one that only the student has right.
    assert accuracy_at(1.0, score, student, teacher) == 0.75


def test_changes_against_float32():
    score = np.array([0.1, 0.2, 0.8, 0.9])
    right = np.array([False, True, True, True])
    teacher = np.array([True, True, True, True])
    floats = {
        "bytes": 100, "gzipped_bytes": 90, "delegation_rate": 0.25,
        "student_accuracy": 0.75, "accuracy": 1.0,
    }  # fmt: skip
    float_out = {"score": score, "right": right, "delegate": score < 0.15}
    # The file scores otherwise, and delegates below 0.5: rows 0 and 2.
    out = {
        "score": np.array([0.4, 0.6, 0.1, 0.9]),
        "right": right,
        "delegate": np.array([True, False, True, False]),
    }
    one = {**floats, "bytes": 30, "gzipped_bytes": 20, "delegation_rate": 0.5}
    found = against_float32(one, out, floats, float_out, 0.15, teacher)
    assert found == {
        "size_over_float32": 0.3,
        "gzipped_over_float32": 0.2,
        "student_accuracy_change": 0.0,
        "accuracy_change": 0.0,
        # At a rate of 1/4 row 2 is delegated, and row 0 stays wrong.
        "accuracy_change_at_equal_rate": -25.0,
        "flips": 0.25,  # row 2
        "flips_at_float_threshold": 0.5,  # rows 0 and 2
    }


def test_paired():
    def one(points):
        return {
            **dict.fromkeys(GAINS, points),
            "accuracy_at": {"0.1": points / 100},
        }

    runs = [
        {"a": one(gain + seed), "b": one(seed)}
        for seed, gain in enumerate((1.0, 2.0, 3.0))
    ]
    found = paired(runs, "a", "b")
    for gain in (*(found[name] for name in GAINS), found["accuracy_at"]["0.1"]):
        np.testing.assert_allclose(gain["gains"], [1.0, 2.0, 3.0])
        assert gain["mean"] == pytest.approx(2.0)
        # 2 -+ t * 1 / sqrt(3); t = 4.302653 at 97.5 % with 2 degrees.
        np.testing.assert_allclose(
            gain["interval_95"],
            [2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5],
            rtol=1e-6,
        )
    assert "interval_95" not in paired(runs[:1], "a", "b")[GAINS[0]]


def test_targets():
    result = {
        "size_over_float32": {
            "float16": 0.56, "dynamic": 0.3, "int8": 0.32, "int4": 0.21,
        },
        "gzipped_over_float32": {"prune+qat": 0.21},
        "accuracy_change": {
            "int8": -0.3, "int4": -0.5, "qat": 0.2, "prune": -0.31,
        },
    }  # fmt: skip
    missed = [
        (one["target"], one["mode"])
        for one in targets(result)
        if not one["met"]
    ]
    assert missed == [
        ("size_over_float32", "float16"),
        ("size_over_float32", "int4"),
        ("gzipped_over_float32", "prune+qat"),
        ("accuracy_drop", "prune"),
    ]
