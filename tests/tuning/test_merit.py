"""Merits and their paired differences against SciPy."""

import numpy as np
import pytest
from scipy import stats

import keras_cascade as kc
from keras_cascade.tuning.merit import difference, merit_of

COSTS = kc.evaluation.Costs(0.1, 1.0, "teacher passes", "given")


def results(seed, rows=400, weight=None):
    rng = np.random.default_rng(seed)
    return kc.evaluation.ExampleResults(
        scores=rng.random(rows),
        student_correct=rng.random(rows) < 0.6,
        teacher_correct=rng.random(rows) < 0.9,
        sample_weight=weight,
    )


def correctness(one, threshold):
    return np.where(
        one.scores < threshold, one.teacher_correct, one.student_correct
    )


@pytest.mark.parametrize("of_accuracy", [True, False])
def test_the_interval_is_that_of_a_paired_mean(of_accuracy):
    pair = results(0), results(1)
    budget = kc.MaxDelegationRate(0.3) if of_accuracy else kc.MinAccuracy(0.65)
    merits = tuple(merit_of(one, budget, COSTS) for one in pair)
    gap = difference(*pair, merits, (COSTS, COSTS), 0.9)
    thresholds = [merit.point.threshold for merit in merits]
    if of_accuracy:
        columns = [correctness(*p) for p in zip(pair, thresholds, strict=True)]
    else:
        columns = [
            -(0.1 + (one.scores < t))
            for one, t in zip(pair, thresholds, strict=True)
        ]
    paired = np.subtract(*(np.asarray(c, "float64") for c in columns))
    mean, error = paired.mean(), paired.std() / np.sqrt(len(paired))
    low, high = stats.norm.interval(0.9, mean, error)
    assert gap["difference"] == pytest.approx(merits[0].value - merits[1].value)
    assert (gap["low"], gap["high"]) == pytest.approx((low, high))
    # As many examples as make the interval end at 0.
    reach = (high - low) / 2 * np.sqrt(len(paired) / gap["examples_needed"])
    assert reach == pytest.approx(abs(mean), rel=0.01)


def test_weights_of_copies():
    """Whole weights are as copies, but for the standard error."""
    one, other = results(2), results(3)
    copies = np.random.default_rng(4).integers(1, 4, 400)
    weighted, repeated = [
        [
            kc.evaluation.ExampleResults(
                scores=np.repeat(r.scores, copies) if repeat else r.scores,
                student_correct=np.repeat(r.student_correct, copies)
                if repeat
                else r.student_correct,
                teacher_correct=np.repeat(r.teacher_correct, copies)
                if repeat
                else r.teacher_correct,
                sample_weight=None if repeat else copies.astype("float64"),
            )
            for r in (one, other)
        ]
        for repeat in (False, True)
    ]
    budget = kc.MaxDelegationRate(0.3)
    gaps = []
    for pair in (weighted, repeated):
        merits = tuple(merit_of(r, budget, COSTS) for r in pair)
        gaps.append(difference(*pair, merits, (COSTS, COSTS), 0.9))
    assert gaps[0]["difference"] == pytest.approx(gaps[1]["difference"])
    # Copies look like more evidence than there is.
    assert gaps[0]["low"] < gaps[1]["low"]


def test_a_budget_that_is_not_met_says_what_is_nearest():
    merit = merit_of(results(5), kc.MinAccuracy(1.0), COSTS)
    assert merit.value == -np.inf and merit.point is None
    assert "Attainable" in merit.nearest


def test_the_budgets_confidence_is_left_out():
    budget = kc.MaxDelegationRate(0.3, confidence=0.95)
    merit = merit_of(results(6), budget, COSTS)
    assert merit.value == pytest.approx(
        results(6).deferral_curve().accuracy_at(0.3)
    )
