"""Guarantees against slow loops over every threshold with SciPy's own tests."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import keras_cascade as kc
from keras_cascade.calibration import (
    AllOf,
    CalibrationSample,
    MaxAccuracyDrop,
    MaxCost,
    MaxDelegationRate,
    MinAccuracy,
    MinGroupAccuracy,
    fit_threshold,
)
from keras_cascade.calibration.exact_tests import drop_shown
from keras_cascade.calibration.guarantees import guarantee_sentence
from keras_cascade.evaluation import Costs

ERROR = 0.05


def population(n, seed=0, student=0.8, teacher=0.93, values=None):
    """Scores that know something of whether the student is right."""
    rng = np.random.default_rng(seed)
    scores = rng.random(n)
    if values:
        scores = np.floor(scores * values) / values
    right = rng.random(n) < np.clip(student + 0.5 * (scores - 0.5), 0, 1)
    return scores, right, rng.random(n) < teacher


def slow(scores, student, teacher, passes, from_the_top):
    """The lowest (highest) threshold that fixed-sequence testing reaches."""
    thresholds = [*np.unique(scores), np.inf]
    reached = None
    for threshold in reversed(thresholds) if from_the_top else thresholds:
        delegated = scores < threshold
        if not passes(delegated, student, teacher):
            break
        reached = delegated.mean()
    return reached


def shows_accuracy(floor):
    def passes(delegated, student, teacher):
        right = int(np.where(delegated, teacher, student).sum())
        test = stats.binomtest(right, len(student), floor, "greater")
        return test.pvalue <= ERROR

    return passes


def shows_rate(limit):
    def passes(delegated, student, teacher):
        test = stats.binomtest(
            int(delegated.sum()), len(student), limit, "less"
        )
        return test.pvalue <= ERROR

    return passes


def shows_drop(limit):
    def passes(delegated, student, teacher):
        # Its own tests check it against enumeration.
        return drop_shown(
            int((~delegated & ~student & teacher).sum()),
            int((~delegated & student & ~teacher).sum()),
            len(student),
            limit,
            ERROR,
        )

    return passes


CASES = {
    "min_accuracy": (MinAccuracy, shows_accuracy, True, (0.75, 0.8, 0.85)),
    "max_accuracy_drop": (MaxAccuracyDrop, shows_drop, True, (0.01, 0.025)),
    "max_delegation_rate": (MaxDelegationRate, shows_rate, False, (0.2, 0.5)),
}


@pytest.mark.parametrize("name", CASES)
@given(seed=st.integers(0, 10_000), values=st.sampled_from([None, 40]))
@settings(max_examples=25, deadline=None)
def test_guarantee_is_the_end_of_the_fixed_sequence(name, seed, values):
    make, shows, from_the_top, limits = CASES[name]
    case = population(300, seed, values=values)
    for limit in limits:
        expected = slow(*case, shows(limit), from_the_top)
        options = {} if from_the_top else {"tolerance": 1.0}
        objective = make(limit, confidence=1 - ERROR, **options)
        if expected is None:
            with pytest.raises(ValueError, match="cannot be guaranteed"):
                fit_threshold(*case, objective)
            continue
        point = fit_threshold(*case, objective)
        assert point.delegation_rate == pytest.approx(expected, abs=1e-12)
        assert point.confidence == 0.95
        assert point.effective_examples == 300


def test_testing_stops_at_the_first_failure():
    # From the top: 100 kept examples right, then 60 wrong, then 200 right.
    # Keeping everything would pass on its own, but lies beyond a failure.
    student = np.repeat([True, False, True], [200, 60, 100])
    teacher = np.ones(360, bool)
    point = fit_threshold(
        np.arange(360.0), student, teacher, MinAccuracy(0.9, confidence=0.95)
    )
    least = next(
        k for k in range(361)
        if stats.binomtest(k, 360, 0.9, "greater").pvalue <= ERROR
    )  # fmt: skip
    wrong_allowed = 360 - least
    assert wrong_allowed < 60
    assert point.delegation_rate == (260 - wrong_allowed) / 360


def test_a_guarantee_says_what_it_guarantees():
    point = fit_threshold(
        *population(2000), MaxAccuracyDrop(0.05, confidence=0.95)
    )
    assert point.accuracy_drop_bound == 0.05
    assert point.guarantees == [
        {"quantity": "accuracy_drop", "at_most": 0.05, "confidence": 0.95}
    ]
    empirical = fit_threshold(*population(2000), MaxAccuracyDrop(0.05))
    assert empirical.guarantees == []
    assert empirical.accuracy_drop_bound is empirical.confidence is None
    assert empirical.delegation_rate < point.delegation_rate


def test_too_few_examples_for_the_confidence():
    # The smallest n with 0.99^n <= 0.05 is 299, and 1 - 0.05^(1/100) = 0.0295.
    for objective, rate in (
        (MaxAccuracyDrop(0.01, confidence=0.95), "drop"),
        (MaxDelegationRate(0.01, confidence=0.95), "rate"),
    ):
        with pytest.raises(ValueError, match=rate) as caught:
            fit_threshold(*population(100), objective)
        assert "at least 299 examples" in str(caught.value)
        assert "0.0295" in str(caught.value)
        scores, _, teacher = population(299)
        fit_threshold(scores, teacher, teacher, objective)


def test_an_accuracy_that_cannot_be_guaranteed_names_what_can():
    scores = np.arange(100.0)
    teacher = np.arange(100) >= 5
    with pytest.raises(ValueError, match="cannot be guaranteed") as caught:
        fit_threshold(
            scores, teacher, teacher, MinAccuracy(0.93, confidence=0.95)
        )
    lower = stats.binomtest(95, 100, alternative="greater").proportion_ci(0.95)
    assert f"at least {lower.low:.4f}" in str(caught.value)
    needed = int(re.search(r"about (\d+) examples", str(caught.value))[1])
    for count in range(needed, needed + 60):
        right = int(0.95 * count + 1e-9)
        assert stats.binomtest(right, count, 0.93, "greater").pvalue <= ERROR
    fewer = needed - needed // 5
    right = int(0.95 * fewer)
    assert stats.binomtest(right, fewer, 0.93, "greater").pvalue > ERROR
    with pytest.raises(ValueError, match=r"a teacher above 0\.9600"):
        fit_threshold(
            scores, teacher, teacher, MinAccuracy(0.96, confidence=0.95)
        )


def test_several_objectives_take_the_cheapest_that_meets_all():
    case = population(2000)
    drop = MaxAccuracyDrop(0.03, confidence=0.95)
    accurate = MinAccuracy(0.85, confidence=0.9)
    rate = MaxDelegationRate(0.9, confidence=0.95)
    alone = [fit_threshold(*case, one) for one in (drop, accurate)]
    point = fit_threshold(*case, [drop, accurate, rate])
    assert point.threshold == max(one.threshold for one in alone)
    assert [p["quantity"] for p in point.guarantees] == [
        "accuracy_drop", "accuracy", "delegation_rate",
    ]  # fmt: skip
    # A union bound over 0.05 + 0.1 + 0.05.
    assert point.confidence == pytest.approx(0.8)
    assert point.accuracy_drop_bound == 0.03
    budgets = fit_threshold(*case, [rate, MaxDelegationRate(0.2)])
    assert budgets.delegation_rate == pytest.approx(0.2)


def test_objectives_that_exclude_each_other():
    case = population(2000)
    with pytest.raises(ValueError, match="No threshold meets all") as caught:
        fit_threshold(*case, [MaxAccuracyDrop(0.0), MaxDelegationRate(0.05)])
    assert "MaxDelegationRate(0.05) by delegation rates from 0.0000" in str(
        caught.value
    )
    with pytest.raises(ValueError, match=r"MinAccuracy\(0.99\) cannot be met"):
        fit_threshold(*case, [MinAccuracy(0.99), MaxDelegationRate(0.05)])


def test_cost_is_a_rate():
    costs = Costs(0.1, 1.0, "EUR", "given", network=1.0)
    case = population(2000)
    for confidence in (None, 0.95):
        by_cost = fit_threshold(
            *case, MaxCost(0.5, confidence=confidence), costs=costs
        )
        # 0.1 + d · (1 + 1) <= 0.5 where d <= 0.2.
        by_rate = fit_threshold(
            *case, MaxDelegationRate(0.2, confidence=confidence), costs=costs
        )
        assert by_cost.threshold == by_rate.threshold
        assert by_cost.amortized_cost <= 0.5
    with pytest.raises(ValueError, match="needs costs"):
        fit_threshold(*case, MaxCost(0.5))
    with pytest.raises(ValueError, match=r"student alone costs 0\.1 EUR"):
        fit_threshold(*case, MaxCost(0.05), costs=costs)
    everything = fit_threshold(
        *case, MaxCost(9.0, confidence=0.95), costs=costs
    )
    assert everything.delegation_rate == 1.0


def test_every_group_has_its_floor():
    scores, student, teacher = population(4000)
    groups = np.where(np.arange(4000) % 4 == 0, "rare", "usual")
    floors = {"rare": 0.84, "usual": 0.8}

    def passes(delegated, student, teacher):
        right = np.where(delegated, teacher, student)
        return all(
            stats.binomtest(
                int(right[groups == g].sum()),
                int((groups == g).sum()),
                floor,
                "greater",
            ).pvalue
            <= ERROR
            for g, floor in floors.items()
        )

    # Any threshold's decisions are those of a prefix of the sorted scores.
    ends = np.sort(scores)
    low, high = 0, len(ends)  # high passes
    point = fit_threshold(
        scores, student, teacher,
        MinGroupAccuracy(groups, floors, confidence=0.95),
    )  # fmt: skip
    for count in range(high, low, -1):
        threshold = ends[count] if count < len(ends) else np.inf
        if not passes(scores < threshold, student, teacher):
            assert point.delegation_rate == (count + 1) / 4000
            break
    else:
        raise AssertionError("the floors never failed")
    assert point.guarantees[0]["at_least"] == floors


def test_groups_by_class_and_their_errors():
    scores, student, teacher = population(3000)
    labels = np.arange(3000) % 3
    by_class = fit_threshold(
        scores, student, teacher, MinGroupAccuracy("class", 0.8), labels=labels
    )
    by_array = fit_threshold(
        scores, student, teacher, MinGroupAccuracy(labels, 0.8)
    )
    assert by_class.threshold == by_array.threshold
    right = np.where(scores < by_class.threshold, teacher, student)
    assert min(right[labels == g].mean() for g in range(3)) >= 0.8
    for objective, message in (
        (MinGroupAccuracy("class", 0.8), "no labels"),
        (MinGroupAccuracy([1, 2], 0.8), "Received: 2"),
        (MinGroupAccuracy(labels, {7: 0.8}), "asks for group '7'"),
        (MinGroupAccuracy(labels, 0.999), "group 0 reaches at most"),
        (
            MinGroupAccuracy(labels, 0.99, confidence=0.95),
            "cannot be guaranteed for group 0",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            fit_threshold(scores, student, teacher, objective)


def test_weights_are_turned_into_a_sample_of_the_traffic():
    rng = np.random.default_rng(5)
    scores, student, teacher = population(20_000)
    labels = rng.integers(0, 10, 20_000)
    mix = kc.TrafficMix({0: 0.4, 1: 0.4, **dict.fromkeys(range(2, 10), 0.025)})
    weight = mix.weights(labels)
    sample = CalibrationSample(scores, student, teacher, weight, seed=3)
    kept = labels[sample.examples.order][sample.counted]
    # Classes 0 and 1 come 4 times as often as in the data and are all kept;
    # the others a sixteenth: 20,000 · (0.2 + 0.8 / 16) = 5,000.
    assert sample.trials == pytest.approx(5_000, abs=4 * np.sqrt(1_000))
    share = np.bincount(kept, minlength=10) / len(kept)
    np.testing.assert_allclose(share[:2], 0.4, atol=0.03)
    np.testing.assert_allclose(share[2:], 0.025, atol=0.012)
    # Kish: (Σw)² / Σw² with w = 4 for a fifth and 0.25 for the rest.
    expected = 20_000 / (0.2 * 16 + 0.8 / 16)
    assert sample.effective_examples == pytest.approx(expected, rel=0.03)


def test_weighted_guarantees_count_only_the_sample():
    scores, student, teacher = population(6000)
    weight = np.where(np.arange(6000) % 3 == 0, 1.0, 0.0)
    objective = MaxAccuracyDrop(0.05, confidence=0.95)
    weighted = fit_threshold(scores, student, teacher, objective, weight)
    rows = weight > 0
    plain = fit_threshold(scores[rows], student[rows], teacher[rows], objective)
    assert weighted.effective_examples == plain.effective_examples == 2000
    assert weighted.delegation_rate == pytest.approx(plain.delegation_rate)
    assert weighted.accuracy == pytest.approx(plain.accuracy)


def test_a_group_is_sampled_by_its_own_weights():
    # Group 1 comes rarely, but evenly: none of its examples is left out.
    scores, student, teacher = population(2000)
    groups = np.arange(2000) % 2
    weight = np.where(groups == 1, 0.01, 1.0)
    sample = CalibrationSample(scores, student, teacher, weight)
    rows = groups[sample.examples.order] == 1
    assert sample.counted_among(rows).sum() == 1000
    assert (sample.counted & rows).sum() < 30
    objective = MinGroupAccuracy(groups, 0.75, confidence=0.95)
    weighted = fit_threshold(scores, student, teacher, objective, weight)
    plain = fit_threshold(scores, student, teacher, objective)
    assert weighted.threshold == plain.threshold


def test_the_draw_is_repeatable():
    case = population(3000)
    weight = np.random.default_rng(1).random(3000)
    objective = MinAccuracy(0.8, confidence=0.95)
    one, again, other = (
        fit_threshold(*case, objective, weight, seed=seed) for seed in (1, 1, 2)
    )
    assert one == again
    assert one.effective_examples != other.effective_examples


def test_tied_scores_refuse_a_guaranteed_rate_that_does_not_exist():
    scores = np.repeat([0.1, 0.9], [300, 700])
    right = np.ones(1000, bool)
    objective = MaxDelegationRate(0.6, confidence=0.95)
    # Clopper and Pearson: 300 of 1000 show a rate of at most 0.3248.
    upper = stats.binomtest(300, 1000, alternative="less").proportion_ci(0.95)
    assert 0.3247 < upper.high <= 0.3248
    with pytest.raises(ValueError, match=r"0\.3248 and 1\.0000"):
        fit_threshold(scores, right, right, objective)
    point = fit_threshold(
        scores, right, right, MaxDelegationRate(0.3248, confidence=0.95)
    )
    assert point.delegation_rate == 0.3


@pytest.mark.parametrize("confidence", [0.95, 0.999, 0.9999])
def test_enough_examples_stay_enough(confidence):
    # From the number on that makes it possible, nothing lost is guaranteed.
    needed = int(np.ceil(np.log(1 - confidence) / np.log1p(-0.01)))
    objective = MaxAccuracyDrop(0.01, confidence=confidence)
    for n in (*range(needed, needed + 900, 50), 3000):
        right = np.ones(n, bool)
        point = fit_threshold(np.arange(float(n)), right, right, objective)
        assert point.delegation_rate == 0.0


def test_whole_numbers_and_half_precision_are_scores():
    student, teacher = [0, 0, 1, 1], [1, 1, 1, 1]
    for dtype in ("int64", "uint8", "int8", "float16"):
        point = fit_threshold(
            np.array([0, 1, 2, 3], dtype), student, teacher, MinAccuracy(0.75)
        )
        assert point.threshold == 0.5
        assert (point.delegation_rate, point.accuracy) == (0.25, 0.75)


def test_objectives_inside_objectives():
    drop = MaxAccuracyDrop(0.1, confidence=0.5)
    rate = MaxDelegationRate(0.9, confidence=0.6)
    both = AllOf([AllOf([drop, rate]), MinAccuracy(0.5, confidence=0.95)])
    assert len(both.objectives) == 3
    assert both.confidence == pytest.approx(0.05)  # 1 - 0.5 - 0.4 - 0.05
    assert AllOf([drop, MinAccuracy(0.5, confidence=0.5)]).confidence is None
    with pytest.raises(ValueError, match="Expected a list of objectives"):
        AllOf(drop)


def test_the_largest_weight_that_can_come():
    # No row with the weight 10 was drawn: a tenth of the others may be kept.
    case = population(4000)
    objective = MinAccuracy(0.7, confidence=0.95)
    weight = np.ones(4000)
    point = fit_threshold(*case, objective, weight, max_weight=10.0)
    assert point.effective_examples == pytest.approx(400, abs=80)
    with pytest.raises(ValueError, match="no weight above `max_weight`"):
        fit_threshold(*case, objective, weight, max_weight=0.5)


def test_no_rate_can_be_guaranteed_to_be_nothing():
    with pytest.raises(ValueError, match="no number of examples"):
        fit_threshold(*population(50), MaxDelegationRate(0.0, confidence=0.95))


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        (
            MaxAccuracyDrop(0.01, confidence=0.95),
            "1.00 points less accurate than the",
        ),
        (MaxDelegationRate(0.2, confidence=0.9), "20.00 % delegated (conf"),
        (MaxCost(2.5, confidence=0.95), "at most 2.5 EUR per example"),
        (
            MinAccuracy(0.9, confidence=0.99),
            "90.00 % accurate (confidence 99 %)",
        ),
        (
            MinGroupAccuracy("class", 0.8, confidence=0.95),
            "accurate in every group",
        ),
        (
            MinGroupAccuracy(["a"], {"a": 0.8}, confidence=0.95),
            "accurate in group a",
        ),
    ],
)
def test_guarantees_in_words(objective, words):
    (guarantee,) = objective.guarantees()
    assert words in guarantee_sentence(guarantee, "EUR")
    assert AllOf([objective]).guarantees() == [guarantee]
