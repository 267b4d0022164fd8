"""Objectives against brute force over every threshold."""

import json

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import keras_cascade as kc
from keras_cascade.calibration import (
    AllOf,
    MaxAccuracyDrop,
    MaxCost,
    MaxDelegationRate,
    MinAccuracy,
    MinGroupAccuracy,
    OperatingPoint,
    fit_threshold,
    measure_threshold,
)
from keras_cascade.calibration.serialization import NAMES
from keras_cascade.evaluation import Costs
from tests.helpers.example_columns import correctness


def results():
    """Scores of at least two values: one value separates nothing."""
    return correctness().filter(lambda case: len(np.unique(case[0])) > 1)


def every_split(scores, student, teacher):
    """(rate, accuracy) of each distinct split, least delegation first."""
    thresholds = [*np.unique(scores), np.inf]
    for threshold in thresholds:
        delegated = scores < threshold
        yield delegated.mean(), np.where(delegated, teacher, student).mean()


@given(results(), st.floats(0, 1))
@settings(max_examples=300, deadline=None)
def test_min_accuracy_is_the_cheapest_that_meets_it(case, accuracy):
    meeting = [r for r, a in every_split(*case) if a >= accuracy - 1e-12]
    if not meeting:
        with pytest.raises(ValueError, match="Attainable"):
            fit_threshold(*case, MinAccuracy(accuracy))
        return
    point = fit_threshold(*case, MinAccuracy(accuracy))
    assert point.delegation_rate == pytest.approx(min(meeting), abs=1e-12)
    assert point.accuracy >= accuracy - 1e-12
    assert_threshold_does_what_it_says(point, *case)


@given(results(), st.floats(0, 1))
@settings(max_examples=300, deadline=None)
def test_max_accuracy_drop_is_the_cheapest_that_meets_it(case, drop):
    _, _, teacher = case
    meeting = [
        r for r, a in every_split(*case) if teacher.mean() - a <= drop + 1e-12
    ]
    point = fit_threshold(*case, MaxAccuracyDrop(drop))
    assert point.delegation_rate == pytest.approx(min(meeting), abs=1e-12)
    assert point.accuracy_drop <= drop + 1e-12
    assert_threshold_does_what_it_says(point, *case)


@given(results(), st.floats(0, 1))
@settings(max_examples=300, deadline=None)
def test_max_delegation_rate_spends_the_budget(case, rate):
    best = max(r for r, _ in every_split(*case) if r <= rate + 1e-12)
    near = max(0.01, 1 / len(case[0]))
    assume(abs(rate - best - near) > 1e-9)
    if rate - best > near:
        with pytest.raises(ValueError, match="share one score"):
            fit_threshold(*case, MaxDelegationRate(rate))
        return
    point = fit_threshold(*case, MaxDelegationRate(rate))
    assert point.delegation_rate == pytest.approx(best, abs=1e-12)
    assert_threshold_does_what_it_says(point, *case)


def assert_threshold_does_what_it_says(point, scores, student, teacher):
    delegated = scores < np.asarray(point.threshold, scores.dtype)
    answer = np.where(delegated, teacher, student)
    assert point.delegation_rate == pytest.approx(delegated.mean())
    assert point.accuracy == pytest.approx(answer.mean())


def test_float32_scores_give_a_threshold_that_is_exact_in_float32():
    scores = np.random.default_rng(0).random(1000, dtype="float32")
    right = scores > 0.3
    point = fit_threshold(scores, right, ~right, MaxDelegationRate(0.37))
    assert float(np.float32(point.threshold)) == point.threshold
    assert (scores < np.float32(point.threshold)).mean() == 0.37


def test_tied_scores_refuse_a_rate_that_does_not_exist():
    # 69 % share the top score: between 0.31 and 1.0 there is nothing.
    scores = np.concatenate([np.linspace(0, 0.5, 31), np.ones(69)])
    right = np.ones(100, bool)
    with pytest.raises(ValueError, match=r"0\.3100 and 1\.0000"):
        fit_threshold(scores, right, right, MaxDelegationRate(0.5))
    point = fit_threshold(
        scores, right, right, MaxDelegationRate(0.5, tolerance=0.2)
    )
    assert point.delegation_rate == pytest.approx(0.31)


@pytest.mark.parametrize(
    "objective", [MaxDelegationRate(0.2), MinAccuracy(1.0), MaxAccuracyDrop(0)]
)
def test_all_tied(objective):
    scores, right = np.zeros(50), np.ones(50, bool)
    with pytest.raises(ValueError, match=r"same score, 0\.0, for all 50"):
        fit_threshold(scores, right, right, objective)


def test_an_objective_that_cannot_be_met_names_what_can():
    # The best of all thresholds delegates the first: 3 of 4 right.
    with pytest.raises(ValueError, match=r"0\.7500, at delegation rate 0\.25"):
        fit_threshold(
            [0.1, 0.2, 0.3, 0.4],
            [False, True, True, False],
            [True, False, False, False],
            MinAccuracy(0.9),
        )
    with pytest.raises(ValueError, match="Ask for a larger drop"):
        fit_threshold(
            [0.1, 0.2], [False, True], [True, True], MaxAccuracyDrop(-0.5)
        )


def test_weights_and_costs():
    # Weight 3 of 4 is delegated: amortized 0.1 + 0.75·1.
    point = fit_threshold(
        [0.0, 1.0],
        [False, True],
        [True, True],
        MinAccuracy(1.0),
        sample_weight=[3.0, 1.0],
        costs=Costs(0.1, 1.0, "teacher passes", "given"),
    )
    assert point.delegation_rate == 0.75
    assert point.amortized_cost == pytest.approx(0.85)
    assert point.accuracy_drop_bound is None


def test_measuring_a_threshold_by_hand():
    # Scores below 0.5 are delegated; NaN-free comparison is exact.
    point = measure_threshold(
        [0.4, 0.5, 0.6, 0.1], [1, 0, 1, 0], [0, 1, 1, 1], 0.5
    )
    assert point.delegation_rate == 0.5
    assert point.accuracy == 0.5  # wrong, wrong, right, right
    assert point.accuracy_drop == 0.25


def test_an_operating_point_prints_in_words():
    # 1 of 4 is delegated; the cascade is right on all, the student on 3.
    point = fit_threshold(
        [0.25, 0.75, 0.8, 0.9], [0, 1, 1, 1], [1, 1, 0, 1], MinAccuracy(1.0)
    )
    assert str(point) == (
        "Delegates 25.00 %, where the score is below 0.5.\n"
        "Accuracy 100.00 % (student 75.00 %, teacher 75.00 %) on 4 examples.\n"
        "Guaranteed of new examples: nothing."
    )


def test_an_operating_point_prints_every_guarantee():
    rows = np.arange(1000)
    point = fit_threshold(
        rows / 1000,
        rows >= 100,
        np.ones(1000),
        [
            MaxAccuracyDrop(0.05, confidence=0.95),
            MaxDelegationRate(0.5, confidence=0.9),
        ],
    )
    assert str(point).splitlines()[-1] == (
        "Guaranteed of new examples: at most 5.00 points less accurate than "
        "the teacher (confidence 95 %); at most 50.00 % delegated (confidence "
        "90 %)."
    )


def test_operating_point_and_objectives_survive_a_dict():
    point = fit_threshold([0.1, 0.9], [0, 1], [1, 1], MinAccuracy(1.0))
    assert OperatingPoint.from_dict(point.to_dict()) == point
    made = [
        MaxAccuracyDrop(0.1, confidence=0.9),
        MaxCost(0.2, tolerance=0.5),
        MaxDelegationRate(0.3),
        kc.MaxExpectedCost([[0, 1], [2, 0]], 0.3, confidence=0.95),
        kc.MaxExpectedLoss(0.6),
        kc.MaxFalseAlarmRate("a", 0.2),
        kc.MaxLossIncrease(0.2, confidence=0.95),
        MinAccuracy(0.4),
        kc.MinPrecision(1, 0.6, confidence=0.9),
        kc.MinRecall("b", 0.7),
        MinGroupAccuracy(["a", "b"], {"a": 0.5}, confidence=0.95),
    ]
    assert {type(one) for one in made} == set(NAMES.values()) - {AllOf}
    for one in (*made, MinGroupAccuracy("class", 0.5), AllOf(made)):
        assert kc.calibration.get(one) is one
        assert kc.calibration.serialize(one) == one.describe()
        config = json.loads(json.dumps(kc.calibration.serialize(one)))
        for again in (
            kc.calibration.deserialize(config),
            kc.calibration.get(config),
        ):
            assert type(again) is type(one)
            assert again.get_config() == one.get_config()
            assert repr(again) == repr(one)
        if not (isinstance(one, (AllOf, MinGroupAccuracy))):
            again = eval(repr(one), NAMES)
            assert again.get_config() == one.get_config()
    assert kc.calibration.get(made).get_config() == AllOf(made).get_config()


@pytest.mark.parametrize("bad", [None, {"class_name": "Max", "config": {}}])
def test_no_objective(bad):
    with pytest.raises(ValueError, match="Expected"):
        kc.calibration.get(bad)


def test_objectives_print_as_they_are_written():
    assert repr(MaxAccuracyDrop(0.01)) == "MaxAccuracyDrop(0.01)"
    assert (
        repr(MaxDelegationRate(0.2, confidence=0.95))
        == "MaxDelegationRate(0.2, confidence=0.95)"
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: MaxDelegationRate(1.5),
        lambda: MaxDelegationRate("0.2"),
        lambda: MinAccuracy(-0.1),
        lambda: MinAccuracy(True),
        lambda: MaxAccuracyDrop(float("nan")),
        lambda: MinAccuracy(0.9, confidence=1.0),
        lambda: MinAccuracy(0.9, confidence=0),
        lambda: MaxAccuracyDrop(0.0, confidence=0.95),
        lambda: MaxCost(-1),
        lambda: MinGroupAccuracy("colour", 0.5),
        lambda: fit_threshold([0.1], [1], [1], 0.2),
        lambda: fit_threshold([0.1], [1], [1], []),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(ValueError, match="Expected"):
        make()


def test_a_share_in_percent_is_guessed():
    with pytest.raises(ValueError, match=r"Received: 5. Write 5 % as 0\.05\."):
        kc.MaxAccuracyDrop(5)
    with pytest.raises(ValueError, match=r"Write 95 % as 0\.95\."):
        kc.MaxAccuracyDrop(0.05, confidence=95)
    with pytest.raises(ValueError, match=r"Received: -3\.$"):
        kc.MaxAccuracyDrop(-3)


def test_labels_in_the_objectives_place_are_told():
    with pytest.raises(ValueError, match=r"`calibrate\(\(x, y\), objective\)`"):
        kc.calibration.fit_threshold([0.5], [True], [True], np.array([1]))


def test_an_end_of_the_curve_in_words():
    right = [True, True]
    point = kc.calibration.measure_threshold([0.1, 0.9], right, right, 0.0)
    assert str(point).startswith("Delegates nothing.\n")
    point = kc.calibration.measure_threshold([0.1, 0.9], right, right, 2.0)
    assert str(point).startswith("Delegates everything.\n")
