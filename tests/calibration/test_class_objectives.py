"""Objectives on one class and on costs, against loops and SciPy's tests."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import keras_cascade as kc
from keras_cascade.calibration import CalibrationSample, fit_threshold
from keras_cascade.calibration.bounded_mean import mean_shown, stakes_for
from keras_cascade.calibration.guarantees import guarantee_sentence

ERROR = 0.05
COSTS = np.array([[0, 1, 4], [2, 0, 1], [10, 3, 0]])


def answers(n, seed=0, student=0.65, teacher=0.93, classes=3):
    """Columns of a student that is right more often at high scores."""
    rng = np.random.default_rng(seed)
    scores = np.round(rng.random(n), 2)
    labels = rng.integers(0, classes, n)
    shift = rng.integers(1, classes, (2, n))
    right = rng.random(n) < np.clip(student + 0.4 * (scores - 0.5), 0, 1)
    sure = rng.random(n) < teacher
    return {
        "scores": scores,
        "labels": labels,
        "student_labels": np.where(
            right, labels, (labels + shift[0]) % classes
        ),
        "teacher_labels": np.where(sure, labels, (labels + shift[1]) % classes),
    }


def fitted(columns, objective, **kwargs):
    return fit_threshold(
        student_correct=columns["student_labels"] == columns["labels"],
        teacher_correct=columns["teacher_labels"] == columns["labels"],
        objective=objective,
        **columns,
        **kwargs,
    )


def cascade_answers(columns, threshold):
    return np.where(
        columns["scores"] < threshold,
        columns["teacher_labels"],
        columns["student_labels"],
    )


def shares(columns, threshold, weight):
    """Precision, recall, false-alarm rate of class 1 and mean cost."""
    answer, right = cascade_answers(columns, threshold), columns["labels"]

    def mean(values, rows):
        return np.average(values[rows], weights=weight[rows])

    return {
        "precision": mean(right == 1, answer == 1),
        "recall": mean(answer == 1, right == 1),
        "false_alarm_rate": mean(answer == 1, right != 1),
        "expected_cost": mean(COSTS[right, answer], slice(None)),
    }


def slow(columns, passes):
    """Delegation rate where fixed-sequence testing from the top ends."""
    reached = None
    for threshold in [np.inf, *np.unique(columns["scores"])[::-1]]:
        if not passes(cascade_answers(columns, threshold), columns["labels"]):
            break
        reached = float((columns["scores"] < threshold).mean())
    return reached


def binomial(event, counted, limit, side):
    def passes(answer, right):
        rows = counted(answer, right)
        if not rows.any():
            return False
        events = int(event(answer, right)[rows].sum())
        test = stats.binomtest(events, int(rows.sum()), limit, side)
        return test.pvalue <= ERROR

    return passes


@pytest.mark.parametrize(
    "objective, passes",
    [
        (
            kc.MinPrecision(1, 0.8, confidence=0.95),
            binomial(
                lambda answer, right: right == 1,
                lambda answer, right: answer == 1,
                0.8,
                "greater",
            ),
        ),
        (
            kc.MinRecall(1, 0.8, confidence=0.95),
            binomial(
                lambda answer, right: answer == 1,
                lambda answer, right: right == 1,
                0.8,
                "greater",
            ),
        ),
        (
            kc.MaxFalseAlarmRate(1, 0.09, confidence=0.95),
            binomial(
                lambda answer, right: answer == 1,
                lambda answer, right: right != 1,
                0.09,
                "less",
            ),
        ),
        (
            kc.MaxExpectedCost(3 - 3 * np.eye(3), 0.5, confidence=0.95),
            binomial(
                lambda answer, right: answer != right,
                lambda answer, right: right >= 0,
                0.5 / 3,
                "less",
            ),
        ),
    ],
    ids=lambda one: getattr(one, "quantity", ""),
)
def test_a_guarantee_goes_as_far_as_a_loop_over_binomial_tests(
    objective, passes
):
    for seed in range(3):
        columns = answers(600, seed)
        point = fitted(columns, objective)
        assert point.delegation_rate == slow(columns, passes)
        assert 0 < point.delegation_rate < 1
        assert point.guarantees[0]["quantity"] == objective.quantity


def test_costs_are_tested_by_the_capital_of_the_bets():
    columns = answers(800, 3)
    limit, largest = 0.6 / 10, COSTS.max()

    def passes(answer, right):
        loss = COSTS[right, answer] / largest
        stakes, weights = stakes_for(800, limit, ERROR)
        capital = [np.prod(1 + stake * (limit - loss)) for stake in stakes]
        return weights @ capital >= 1 / ERROR

    objective = kc.MaxExpectedCost(COSTS, 0.6, confidence=0.95)
    point = fitted(columns, objective)
    assert point.delegation_rate == slow(columns, passes)
    assert 0 < point.delegation_rate < 1


@pytest.mark.parametrize("weighted", [False, True])
def test_a_bet_against_a_broken_limit_seldom_wins(weighted):
    # The mean is exactly the limit, the hardest case. Of 400 draws, 5 % are
    # 20; with a probability of 0.9999 a binomial count is at most 38.
    rng, wins, limit = np.random.default_rng(7), 0, 0.125
    for _ in range(400):
        loss = rng.choice([0.0, 0.25, 1.0], 300, p=[0.75, 1 / 6, 1 / 12])
        weight = None
        if weighted:  # of each loss as often: the mean is the same
            weight = rng.choice([0.1, 1.0], 300)
        sample = CalibrationSample(np.arange(300.0), loss == 0, loss == 0)
        shown = mean_shown(sample, loss, loss, limit, ERROR, weight)
        wins += bool(shown[0])
    assert wins <= stats.binom.isf(1e-4, 400, ERROR) == 38


@given(st.integers(0, 10_000), st.booleans())
@settings(max_examples=25, deadline=None)
def test_without_a_confidence_the_cheapest_threshold_meets_the_limit(
    seed, weighted
):
    columns = answers(60, seed)
    weight = np.ones(60)
    if weighted:
        weight = np.random.default_rng(seed).integers(1, 4, 60).astype(float)
    for make, quantity, sign in (
        (lambda limit: kc.MinPrecision(1, limit), "precision", 1),
        (lambda limit: kc.MinRecall(1, limit), "recall", 1),
        (
            lambda limit: kc.MaxFalseAlarmRate(1, limit),
            "false_alarm_rate",
            -1,
        ),
        (
            lambda limit: kc.MaxExpectedCost(COSTS, limit),
            "expected_cost",
            -1,
        ),
    ):
        if np.all(columns["teacher_labels"] != 1):
            continue
        limit = shares(columns, np.inf, weight)[quantity]
        point = fitted(columns, make(limit), sample_weight=weight)
        at = shares(columns, point.threshold, weight)[quantity]
        assert sign * (at - limit) >= -1e-9
        for threshold in np.unique(columns["scores"]):
            rate = np.average(columns["scores"] < threshold, weights=weight)
            if rate >= point.delegation_rate - 1e-9:
                break
            kept = cascade_answers(columns, threshold)
            if quantity == "precision" and not (kept == 1).any():
                continue
            other = shares(columns, threshold, weight)[quantity]
            assert sign * (other - limit) < 0


def test_recall_under_a_traffic_mix_rests_on_every_example_of_its_class():
    columns = answers(600, 1)
    weight = np.where(columns["labels"] == 1, 0.1, 5.0)
    objective = kc.MinRecall(1, 0.8, confidence=0.95)
    weighted = fitted(columns, objective, sample_weight=weight)
    assert weighted.threshold == fitted(columns, objective).threshold


def test_classes_go_by_name_and_the_guarantee_says_so():
    columns = answers(600, 1)
    names = ["ham", "spam", "news"]
    for objective in (
        kc.MinPrecision("spam", 0.8, confidence=0.95),
        kc.MinRecall("spam", 0.8, confidence=0.95),
        kc.MaxFalseAlarmRate("spam", 0.09, confidence=0.95),
    ):
        point = fitted(columns, objective, class_names=names)
        again = kc.calibration.deserialize(
            json.loads(json.dumps(point.objective))
        )
        by_index = type(again)(
            **{**again.get_config(), "class_": 1},
        )
        assert fitted(columns, by_index).threshold == point.threshold
        assert point.guarantees[0]["class"] == "spam"
    assert [
        guarantee_sentence(one.guarantees()[0])
        for one in (
            kc.MinPrecision("spam", 0.95, confidence=0.95),
            kc.MinRecall(1, 0.9, confidence=0.95),
            kc.MaxFalseAlarmRate("spam", 0.01, confidence=0.95),
            kc.MaxExpectedCost(COSTS, 0.25, confidence=0.95),
        )
    ] == [
        "at least 95.00 % of the answers 'spam' right (confidence 95 %)",
        "at least 90.00 % of class 1 answered right (confidence 95 %)",
        "at most 1.00 % of the other classes answered 'spam' (confidence 95 %)",
        "answers that cost at most 0.25 per example (confidence 95 %)",
    ]


def test_several_objectives_are_met_together():
    columns = answers(2000, 5)
    objectives = [
        kc.MinPrecision(1, 0.8, confidence=0.95),
        kc.MinRecall(2, 0.8, confidence=0.95),
        kc.MaxExpectedCost(COSTS, 0.6, confidence=0.95),
    ]
    point = fitted(columns, objectives)
    assert point.confidence == pytest.approx(0.85)
    assert len(point.guarantees) == 3
    assert point.threshold == max(
        fitted(columns, one).threshold for one in objectives
    )


@pytest.mark.parametrize(
    "objective, kwargs, message",
    [
        (
            kc.MinRecall("spam", 0.9),
            {"class_names": ["a", "b", "c"]},
            "'spam', and the classes are 'a', 'b', 'c'.",
        ),
        (kc.MinRecall("spam", 0.9), {}, "not known here: give the index"),
        (kc.MinPrecision(3, 0.9), {"classes": 3}, "from 0 to 2. Received: 3"),
        (
            kc.MaxFalseAlarmRate(3, 0.9),
            {"classes": 4},
            "about class 3, of which there is no example among the 600",
        ),
        (
            kc.MinRecall(1, 0.999),
            {},
            r"at best 0\.9\d\d\d of examples of class 1 answered so",
        ),
        (
            kc.MinPrecision(1, 0.98, confidence=0.95),
            {},
            r"answers of class 1 right show a share of at least 0\.\d{4}",
        ),
        (
            kc.MaxExpectedCost(COSTS, 0.01, confidence=0.95),
            {},
            r"at best 0\.\d+, at delegation rate .* teacher alone 0\.",
        ),
        (
            kc.MaxExpectedCost(np.ones((2, 2)), 0.01),
            {},
            "cost matrix of 3 rows and columns, one for each class. "
            "Received: 2",
        ),
    ],
)
def test_what_cannot_be_met_is_refused_with_what_can(
    objective, kwargs, message
):
    with pytest.raises(ValueError, match=message):
        fitted(answers(600), objective, **{"classes": 3, **kwargs})


def test_an_attainable_share_is_met_when_it_is_asked_for():
    columns = answers(600)
    with pytest.raises(ValueError, match="show a share") as caught:
        fitted(columns, kc.MinPrecision(1, 0.98, confidence=0.95))
    shown = float(str(caught.value).split("at least ")[1][:6])
    fitted(columns, kc.MinPrecision(1, shown, confidence=0.95))


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="by its index, an integer, or by"):
        kc.MinRecall(1.5, 0.9)
    with pytest.raises(ValueError, match="min_precision"):
        kc.MinPrecision(0, 1.5)
    with pytest.raises(ValueError, match="the right labels in rows"):
        kc.MaxExpectedCost([[0, 1]], 0.1)
    with pytest.raises(ValueError, match=r"at least 0\. Received: -1"):
        kc.MaxExpectedCost([[0, -1], [1, 0]], 0.1)
    with pytest.raises(ValueError, match="Received: zeros"):
        kc.MaxExpectedCost(np.zeros((2, 2)), 0.1)
    with pytest.raises(ValueError, match="needs `labels`, `student_labels`"):
        fit_threshold([0.1, 0.9], [0, 1], [1, 1], kc.MinRecall(0, 0.5))
