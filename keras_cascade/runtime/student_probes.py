"""Probe rows of a student: stated answers that a runtime must reproduce.

Accelerators are known to return zeros, or numbers of another model, without an
error. The rows follow from a seed, as a teacher's do, so the manifest holds no
one's data. Each is run alone, as every runtime can.
"""

from __future__ import annotations

import numpy as np

from keras_cascade.bundle import BundleError
from keras_cascade.runtime.operating_points import (
    DEFAULT,
    delegation_rules,
    threshold_of,
)
from keras_cascade.runtime.student_interpreter import run_row_by_row
from keras_cascade.runtime.teachers.probe_rows import probe_inputs
from keras_cascade.utils.answer_form import PROBABILITIES, answer_name

#: Rows, fewer where there are many classes, and numbers in a manifest at most.
ROWS, FEWEST_ROWS, MOST_NUMBERS = 8, 2, 4_096
#: Float16 moved a probability by up to 0.004, a step of 8 bits by up to 0.02.
MOST_DIFFERENCE = 0.05
#: Of the spread between rows. Constant answers, and those of other rows, are
#: further off.
SHARES = {"probabilities": 1 / 4, "values": 1 / 4, "score": 1 / 8}
#: Of the largest value, where rows hardly differ: zeros are further off.
FLOOR = 1e-3
#: Digits of a number in a manifest; float32 has about 7.
DIGITS = 6


def student_probes(student, specs: list[dict], seed: str) -> dict | None:
    """Manifest entry of the probe rows and a student's answers to them.

    Args:
        student: `StudentInterpreter`.
        specs: list of its inputs, as in the manifest.
        seed: str.

    Returns:
        Dict with `rows`, `seed`, `shapes`, `score`, `score_tolerance`,
        `probabilities` and `probabilities_tolerance`, or `values` and
        `values_tolerance`; `None` where an answer is not finite, or an answer
        of several axes has too many numbers for a manifest.
    """
    shapes = student.row_shapes()
    inputs = probe_inputs(specs, seed, FEWEST_ROWS, shapes)
    answers = run_row_by_row(student.run, inputs)
    name = answer_name(answers)
    numbers = answers[name][0].size
    rows = max(FEWEST_ROWS, min(ROWS, MOST_NUMBERS // numbers))
    if answers[name].ndim > 2 and rows * numbers > MOST_NUMBERS:
        return None
    answers = run_row_by_row(
        student.run, probe_inputs(specs, seed, rows, shapes)
    )
    if not all(np.isfinite(answers[one]).all() for one in (name, "score")):
        return None
    return {
        "rows": rows,
        "seed": seed,
        "shapes": shapes,
        "score": [_short(one) for one in answers["score"]],
        "score_tolerance": _tolerance("score", answers),
        name: _nested(answers[name]),
        f"{name}_tolerance": _tolerance(name, answers),
    }


def difference_from_probes(student, bundle, probes: dict) -> str | None:
    """Describes how a runtime's answers differ from those that are stated.

    Args:
        student: object with `run(inputs)`, before its tokenizer.
        bundle: `keras_cascade.bundle.Bundle`.
        probes: dict, as `student_probes` returns it.

    Returns:
        Str, the end of a sentence; `None` where they do not differ.
    """
    inputs = probe_inputs(
        bundle.student_inputs,
        probes["seed"],
        probes["rows"],
        {name: tuple(shape) for name, shape in probes["shapes"].items()},
    )
    answers = run_row_by_row(student.run, inputs)
    for name in (one for one in SHARES if one in probes):
        tolerance = probes[f"{name}_tolerance"]
        try:
            stated = np.asarray(probes[name], "float64")
        except (TypeError, ValueError):  # rows of different lengths
            raise BundleError(
                f"The probe rows of '{bundle.path}' do not fit its answers. "
                "Export the bundle again."
            ) from None
        if answers[name].shape != stated.shape:
            return (
                f"its `{name}` have the shape {answers[name].shape}, where "
                f"{stated.shape} is stated"
            )
        gap = np.abs(answers[name].astype("float64") - stated).max()
        if not gap <= tolerance:  # NaN as well
            return (
                f"its `{name}` of {probes['rows']} probe rows is off by up to "
                f"{gap:.3g}, where {tolerance:.2g} is accepted"
            )
    rules = delegation_rules(bundle)
    if DEFAULT in rules:
        threshold = np.asarray(threshold_of(bundle.operating_point()))
        if threshold.ndim:
            threshold = threshold[answers["probabilities"].argmax(axis=-1)]
        sure = np.abs(answers["score"] - threshold)
        sure = sure > probes["score_tolerance"]
        decided = answers["delegate"].astype(bool)
        wrong = sure & (decided != (answers["score"] < threshold))
        if wrong.any():
            return (
                f"{wrong.sum()} of its {probes['rows']} decisions on probe "
                "rows are not those of its own scores"
            )
    return None


def _tolerance(name, answers):
    values = answers[name]
    spread = float(np.ptp(values, axis=0).max())
    tolerance = max(SHARES[name] * spread, FLOOR * float(np.abs(values).max()))
    if name == PROBABILITIES:
        tolerance = min(tolerance, MOST_DIFFERENCE)
    # Scores that are all 0 leave room for nothing but rounding.
    return _short(max(tolerance, 1e-6))


def _nested(values):
    if values.ndim > 1:
        return [_nested(row) for row in values]
    return [_short(one) for one in values]


def _short(value):
    return float(f"{float(value):.{DIGITS}g}")
