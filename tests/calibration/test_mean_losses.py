"""Bets on mean losses, against enumeration, loops and the exact tests."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import keras_cascade as kc
from keras_cascade.calibration import (
    CalibrationSample,
    OperatingPoint,
    SimultaneousBounds,
    fit_threshold,
    fit_thresholds,
    measure_threshold,
)
from keras_cascade.calibration.bounded_mean import (
    drop_stakes_for,
    mean_drop_shown,
    mean_shown,
    shown_alone,
    stakes_for,
)
from keras_cascade.calibration.guarantees import guarantee_sentence
from keras_cascade.calibration.quality_tests import loss_guaranteed

ERROR = 0.05


def qualities(n, seed=0, digits=2):
    """Scores with ties, and qualities that rise with them."""
    rng = np.random.default_rng(seed)
    scores = np.round(rng.random(n), digits)
    lost = rng.random((2, n)) * (1 - scores) ** 2 * [[0.6], [0.25]]
    return scores, np.round(1 - lost[0], 2), np.round(1 - lost[1], 2)


def compositions(total, parts):
    """All counts of `parts` values that sum to `total`."""
    for bars in itertools.combinations(range(total + parts - 1), parts - 1):
        ends = (-1, *bars, total + parts - 1)
        yield np.diff(ends) - 1


def one_sample(loss):
    """A sample whose last candidate has these losses, the first one none."""
    return CalibrationSample(
        np.arange(len(loss), dtype=float), np.zeros(len(loss)), 1 - loss
    )


@pytest.mark.parametrize(
    ("n", "limit", "error"), [(8, 0.5, 0.2), (14, 0.3, 0.1), (20, 0.25, 0.05)]
)
def test_a_bet_on_a_mean_is_valid_by_enumeration(n, limit, error):
    # Every law on {0, 1/2, 1} whose mean is the limit: whatever is shown is a
    # false claim, and its probability is a sum over all counts.
    values = np.array([0.0, 0.5, 1.0])
    counts = np.array(list(compositions(n, 3)))
    shown = np.array(
        [
            shown_alone(np.repeat(values, c), limit, error, 1.0, stakes_for)
            for c in counts
        ]
    )
    assert shown.any()
    for half in np.linspace(0, min(2 * limit, 2 - 2 * limit), 40):
        one = limit - half / 2
        law = np.clip([1 - half - one, half, one], 0, 1)
        chance = stats.multinomial.pmf(counts, n, law / law.sum())
        assert chance[shown].sum() <= error


@pytest.mark.parametrize(
    ("n", "limit", "error"), [(6, 0.5, 0.2), (9, 0.3, 0.1), (12, 0.25, 0.1)]
)
def test_a_bet_on_a_drop_is_valid_by_enumeration(n, limit, error):
    values = np.array([-1.0, -0.5, 0.0, 1.0])
    counts = np.array(list(compositions(n, 4)))
    shown = []
    for c in counts:
        drop = np.repeat(values, c)
        # Everything is kept at the first candidate.
        sample = one_sample(np.abs(drop))
        shown.append(mean_drop_shown(sample, drop, limit, error, None)[0])
    shown = np.array(shown)
    assert shown.any() and not shown.all()
    rng = np.random.default_rng(0)
    laws = np.concatenate(
        [rng.dirichlet(np.ones(4), 200), rng.dirichlet([0.2, 0.2, 1, 1], 200)]
    )
    for law in laws:
        mean = law @ values
        if mean < limit:  # mixed with a sure drop of 1 until it is the limit
            part = (limit - mean) / (1 - mean)
            law = (1 - part) * law + part * np.array([0, 0, 0, 1.0])
        elif mean > limit:  # mixed with no drop
            law = law * limit / mean + np.array([0, 0, 1 - limit / mean, 0])
        assert law @ values == pytest.approx(limit)
        chance = stats.multinomial.pmf(counts, n, law / law.sum())
        assert chance[shown].sum() <= error


@pytest.mark.parametrize("n", [10, 25])
def test_choosing_the_test_by_the_values_keeps_the_error(n):
    # All 0 or 1: the exact test; else the bet. With rare fractions both come.
    error, limit, values = 0.1, 0.3, np.array([0.0, 0.5, 1.0])
    counts = np.array(list(compositions(n, 3)))
    shown = np.array(
        [
            loss_guaranteed(one_sample(np.repeat(values, c)), limit, error)[-1]
            for c in counts
        ]
    )
    exact = counts[:, 1] == 0
    assert shown[exact].any() and shown[~exact].any()
    for half in [0, *np.geomspace(1e-4, 0.6, 60)]:
        one = limit - half / 2
        law = np.clip([1 - half - one, half, one], 0, 1)
        chance = stats.multinomial.pmf(counts, n, law / law.sum())
        assert chance[shown].sum() <= error


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("increase", [False, True])
def test_bets_seldom_win_where_the_limit_is_met_exactly(weighted, increase):
    # Of 400 draws, 5 % are 20; with a probability of 0.9999 a binomial count
    # is at most 38.
    rng, wins = np.random.default_rng(7), 0
    for _ in range(400):
        loss = rng.choice([0.0, 0.25, 1.0], 300, p=[0.75, 1 / 6, 1 / 12])
        weight = rng.choice([0.1, 1.0], 300) if weighted else None
        sample = CalibrationSample(np.arange(300.0), 1 - loss, np.ones(300))
        if increase:
            shown = mean_drop_shown(sample, loss, 0.125, ERROR, weight)
        else:
            shown = mean_shown(sample, loss, loss, 0.125, ERROR, weight)
        wins += bool(shown[0])
    assert wins <= stats.binom.isf(1e-4, 400, ERROR) == 38


@given(st.integers(1, 100_000), st.floats(0.001, 0.99), st.floats(1e-4, 0.5))
@settings(max_examples=100, deadline=None)
def test_capital_is_never_negative_and_starts_as_one(n, limit, error):
    for stakes_of in (stakes_for, drop_stakes_for):
        stakes, shares = stakes_of(n, limit, error)
        assert (stakes > 0).all() and shares.sum() == pytest.approx(1)
        # The worst for the bet is a loss, or a drop, of 1.
        assert (1 + stakes * (limit - 1) > 0).all()


def slow(columns, weight, passes):
    """Delegation rate where fixed-sequence testing from the top ends."""
    scores, student, teacher = columns
    reached = None
    for threshold in [np.inf, *np.unique(scores)[::-1]]:
        delegated = scores < threshold
        if not passes(np.where(delegated, teacher, student), teacher):
            break
        reached = float(np.average(delegated, weights=weight))
    return reached


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "objective, stakes_of, loss",
    [
        (
            kc.MaxExpectedLoss(0.08, confidence=0.95),
            stakes_for,
            lambda answer, teacher: 1 - answer,
        ),
        (
            kc.MinAccuracy(0.92, confidence=0.95),
            stakes_for,
            lambda answer, teacher: 1 - answer,
        ),
        (
            kc.MaxLossIncrease(0.06, confidence=0.95),
            drop_stakes_for,
            lambda answer, teacher: teacher - answer,
        ),
        (
            kc.MaxAccuracyDrop(0.06, confidence=0.95),
            drop_stakes_for,
            lambda answer, teacher: teacher - answer,
        ),
    ],
    ids=["expected loss", "accuracy", "increase", "drop"],
)
def test_a_guarantee_goes_as_far_as_a_loop_over_products(
    objective, stakes_of, loss, weighted
):
    columns = qualities(900, 3)
    weight = None
    if weighted:
        weight = np.random.default_rng(1).choice([1.0, 2.0], 900)
    in_bet = 1.0 if weight is None else weight / 2
    limit = getattr(objective, objective.limit)
    limit = 1 - limit if objective.side == "at_least" else limit

    def passes(answer, teacher):
        gain = in_bet * (limit - loss(answer, teacher))
        stakes, shares = stakes_of(900, limit, ERROR)
        capital = [np.prod(1 + stake * gain) for stake in stakes]
        return shares @ capital >= 1 / ERROR

    point = fit_threshold(*columns, objective, weight)
    assert point.delegation_rate == pytest.approx(
        slow(columns, weight, passes), abs=1e-12
    )
    assert 0 < point.delegation_rate < 1
    kish = 900 if weight is None else weight.sum() ** 2 / (weight @ weight)
    assert point.effective_examples == pytest.approx(kish)
    bounded = objective.quantity in ("accuracy_drop", "loss_increase")
    assert point.accuracy_drop_bound == (limit if bounded else None)


@given(st.integers(0, 10_000), st.sampled_from(["float32", "float64", "int8"]))
@settings(max_examples=30, deadline=None)
def test_columns_of_0_and_1_have_the_exact_tests(seed, kind):
    rng = np.random.default_rng(seed)
    scores = np.round(rng.random(400), 2)
    student = rng.random(400) < 0.75 + 0.25 * scores
    teacher = rng.random(400) < 0.97
    for objective, other in (
        (kc.MaxExpectedLoss(0.125, confidence=0.95),
         kc.MinAccuracy(0.875, confidence=0.95)),
        (kc.MaxLossIncrease(0.1, confidence=0.95),
         kc.MaxAccuracyDrop(0.1, confidence=0.95)),
        (kc.MaxExpectedLoss(0.125), kc.MinAccuracy(0.875)),
        (kc.MaxLossIncrease(0.1), kc.MaxAccuracyDrop(0.1)),
    ):  # fmt: skip
        points = []
        for columns, asked in (
            ((student, teacher), objective),
            ((student.astype(kind), teacher.astype(kind)), objective),
            ((student, teacher.astype(kind)), other),
        ):
            try:
                points.append(fit_threshold(scores, *columns, asked))
            except ValueError:
                points.append(None)
        assert points[0] == points[1]
        if points[0] is None:
            assert points[2] is None
        else:
            assert points[0].threshold == points[2].threshold


@given(st.integers(0, 10_000), st.booleans())
@settings(max_examples=30, deadline=None)
def test_order_and_scale_of_weights_do_not_matter(seed, weighted):
    columns = qualities(300, seed)
    rng = np.random.default_rng(seed)
    weight = rng.integers(1, 4, 300).astype(float) if weighted else np.ones(300)
    order = rng.permutation(300)
    for objective in (
        kc.MaxExpectedLoss(0.2, confidence=0.95),
        kc.MaxLossIncrease(0.1, confidence=0.95),
    ):
        point = fit_threshold(*columns, objective, weight)
        shuffled = fit_threshold(
            *(column[order] for column in columns), objective, 4 * weight[order]
        )
        assert shuffled.threshold == point.threshold
        if not weighted:
            assert fit_threshold(*columns, objective).threshold == (
                point.threshold
            )


@given(st.integers(0, 10_000), st.booleans())
@settings(max_examples=30, deadline=None)
def test_without_a_confidence_the_cheapest_threshold_meets_the_limit(
    seed, weighted
):
    scores, student, teacher = qualities(60, seed, digits=1)
    weight = np.ones(60)
    if weighted:
        weight = np.random.default_rng(seed).integers(1, 4, 60).astype(float)

    def measured(threshold):
        delegated = scores < threshold
        answer = np.where(delegated, teacher, student)
        loss = 1 - np.average(answer, weights=weight)
        increase = np.average(teacher - answer, weights=weight)
        return np.average(delegated, weights=weight), loss, increase

    for index, objective in (
        (1, kc.MaxExpectedLoss(measured(0.55)[1])),
        (2, kc.MaxLossIncrease(measured(0.55)[2])),
    ):
        point = fit_threshold(scores, student, teacher, objective, weight)
        limit = getattr(objective, objective.limit)
        at = measured(point.threshold)
        assert at[0] == pytest.approx(point.delegation_rate)
        assert 1 - at[1] == pytest.approx(point.accuracy)
        assert at[2] == pytest.approx(point.accuracy_drop)
        assert at[index] <= limit + 1e-9
        for threshold in np.unique(scores):
            other = measured(threshold)
            if other[0] < point.delegation_rate - 1e-9:
                assert other[index] > limit


def test_examples_that_tie_go_together():
    scores = np.repeat([0.1, 0.5, 0.9], 100)
    student = np.repeat([0.4, 0.7, 0.9], 100)
    point = fit_threshold(
        scores, student, np.full(300, 0.95),
        kc.MaxLossIncrease(0.1, confidence=0.95),
    )  # fmt: skip
    # With the first run delegated the increase is (0.25 + 0.05) / 3 = 0.1,
    # which no number of examples shows to be at most 0.1.
    assert point.delegation_rate == pytest.approx(2 / 3)


@pytest.mark.parametrize("weighted", [False, True])
def test_too_few_examples_say_how_many_are_needed(weighted):
    objective = kc.MaxLossIncrease(0.02, confidence=0.95)

    def fit(n):
        scores, student, teacher = qualities(n, digits=6)
        weight = np.ones(n) if weighted else None
        return fit_threshold(scores, student, teacher, objective, weight)

    with pytest.raises(ValueError, match="20 calibration examples are") as info:
        fit(20)
    needed = int(str(info.value).split("at least ")[1].split(" ")[0])
    with pytest.raises(ValueError, match=f"at least {needed} examples"):
        fit(needed - 1)
    assert 0 < fit(needed).delegation_rate <= 1


def test_a_teacher_that_is_not_shown_to_be_good_enough():
    scores, student, teacher = qualities(60, digits=6)
    loss = 1 - teacher.mean()
    objective = kc.MaxExpectedLoss(round(loss, 3) - 0.01, confidence=0.95)
    with pytest.raises(ValueError, match="a teacher below"):
        fit_threshold(scores, student, teacher, objective)
    objective = kc.MaxExpectedLoss(round(loss, 3) + 0.03, confidence=0.95)
    with pytest.raises(ValueError, match="about") as info:
        fit_threshold(scores, student, teacher, objective)
    shown = float(str(info.value).split("shows at most ")[1].split(". ")[0])
    needed = int(str(info.value).split("about ")[1].split(" ")[0])
    # The limit that is named is shown, and the next printed one is not.
    for limit, error in ((shown, None), (shown - 1e-4, ValueError)):
        objective_there = kc.MaxExpectedLoss(limit, confidence=0.95)
        if error is None:
            fit_threshold(scores, student, teacher, objective_there)
        else:
            with pytest.raises(error):
                fit_threshold(scores, student, teacher, objective_there)
    # As many copies of the examples as make the number that is named.
    copies = -(-needed // 60) + 1
    columns = (np.tile(c, copies) for c in (scores, student, teacher))
    assert fit_threshold(*columns, objective).delegation_rate <= 1
    accuracy = kc.MinAccuracy(1 - objective.max_loss, confidence=0.95)
    with pytest.raises(ValueError, match="mean loss is"):
        fit_threshold(scores, student, teacher, accuracy)


@pytest.mark.parametrize(
    ("student", "message"),
    [
        ([0.5, 1.2], r"student_correct.*in \[0, 1\].*\[1.2\] in 1 of 2"),
        ([0.5, -0.1], r"\[-0.1\]"),
        ([0.5, np.nan], r"\[nan\] in 1 of 2"),
        ([50, 100], "to hold booleans"),
        ([0.5], "equally long"),
    ],
)
def test_bad_qualities(student, message):
    for call in (
        lambda: fit_threshold(
            [0.1, 0.2], student, [True, False], kc.MaxExpectedLoss(0.5)
        ),
        lambda: measure_threshold([0.1, 0.2], student, [True, False], 0.15),
        lambda: kc.evaluation.deferral_curve([0.1, 0.2], student, [1, 0]),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_booleans_beside_fractions_are_taken_as_floats():
    scores, student, _ = qualities(200)
    sure = np.ones(200, dtype=bool)
    objective = kc.MaxLossIncrease(0.1, confidence=0.9)
    assert fit_threshold(scores, student, sure, objective) == fit_threshold(
        scores, student, sure.astype("float64"), objective
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kc.MaxExpectedLoss(1.5), r"max_loss.*\[0.0, 1.0\]"),
        (lambda: kc.MaxExpectedLoss(0.0, confidence=0.9), "above 0 with"),
        (lambda: kc.MaxLossIncrease(2.0), r"max_increase.*\[-1.0, 1.0\]"),
        (lambda: kc.MaxLossIncrease(0.0, confidence=0.9), "above 0 with"),
    ],
)
def test_bad_limits(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_limits_that_nothing_can_break_are_met_without_a_test():
    columns = qualities(5)
    for objective in (
        kc.MaxExpectedLoss(1.0, confidence=0.95),
        kc.MaxLossIncrease(1.0, confidence=0.95),
        kc.MinAccuracy(0.0, confidence=0.95),
    ):
        assert fit_threshold(*columns, objective).delegation_rate == 0


def test_an_unreachable_limit_says_what_is_attainable():
    columns = qualities(100)
    with pytest.raises(ValueError, match=r"mean loss of .*teacher alone"):
        fit_threshold(*columns, kc.MaxExpectedLoss(0.001))
    with pytest.raises(ValueError, match="Ask for a larger increase"):
        fit_threshold(*columns, kc.MaxLossIncrease(-0.5))


def test_several_objectives_and_points_split_their_error():
    columns = qualities(2_000)
    both = [
        kc.MaxExpectedLoss(0.12, confidence=0.975),
        kc.MaxDelegationRate(0.9, confidence=0.975),
    ]
    point = fit_threshold(*columns, both)
    assert point.confidence == 0.95
    assert [one["quantity"] for one in point.guarantees] == [
        "expected_loss", "delegation_rate",
    ]  # fmt: skip
    points = fit_thresholds(
        *columns,
        {
            "loss": kc.MaxExpectedLoss(0.12, confidence=0.95),
            "increase": kc.MaxLossIncrease(0.05, confidence=0.95),
        },
        joint=True,
        loss_name="Hamming loss",
    )
    assert (
        points["loss"].threshold
        == fit_threshold(
            *columns, kc.MaxExpectedLoss(0.12, confidence=0.975)
        ).threshold
    )
    assert {point.loss_name for point in points.values()} == {"Hamming loss"}


def test_a_threshold_per_predicted_class():
    scores, student, teacher = qualities(2_000, digits=4)
    predicted = np.random.default_rng(5).integers(0, 3, 2_000)
    objective = kc.MaxLossIncrease(0.05, confidence=0.95)
    point = fit_threshold(
        scores, student, teacher, objective, per_class=True,
        student_labels=predicted, teacher_labels=predicted,
    )  # fmt: skip
    for c in range(3):
        rows = predicted == c
        alone = fit_threshold(
            scores[rows], student[rows], teacher[rows],
            objective.with_error_split(3),
        )  # fmt: skip
        assert point.class_thresholds[c] == alone.threshold
    assert point.guarantees[0]["in_each_predicted_class"]
    assert point.accuracy_drop_bound == 0.05
    assert point.effective_examples == 2_000


def test_every_group_has_its_bet():
    scores, student, teacher = qualities(1_200, digits=6)
    group = np.random.default_rng(2).integers(0, 2, 1_200)
    objective = kc.MinGroupAccuracy(group, 0.91, confidence=0.95)
    point = fit_threshold(scores, student, teacher, objective)

    def passes(threshold):
        answer = np.where(scores < threshold, teacher, student)
        for g in (0, 1):
            loss = 1 - answer[group == g]
            stakes, shares = stakes_for(len(loss), 1 - 0.91, ERROR)
            capital = [np.prod(1 + s * (0.09 - loss)) for s in stakes]
            if shares @ capital < 1 / ERROR:
                return False
        return True

    candidates = np.unique(scores)[::-1]
    failing = candidates[[not passes(t) for t in candidates]].max()
    lowest = candidates[candidates > failing].min()
    assert point.delegation_rate == (scores < lowest).mean()
    with pytest.raises(ValueError, match=r"for group 0.*mean loss"):
        fit_threshold(
            scores, student, teacher,
            kc.MinGroupAccuracy(group, 0.99, confidence=0.95),
        )  # fmt: skip


def test_simultaneous_bounds_of_fractions_hold_at_all_thresholds():
    # Uniform scores s, a drop of (1 - s)/2 where kept: above t the mean is
    # (1 - t)² / 4. Of 200 draws, 5 % are 10; 23 has a probability of 1e-4.
    thresholds, broken = np.linspace(0, 1, 41), 0
    for seed in range(200):
        scores = np.random.default_rng(seed).random(400)
        bounds = SimultaneousBounds(
            scores, 0.5 + scores / 2, np.ones(400), seed=seed
        )
        shown = bounds.accuracy_drop(thresholds)
        broken += bool((shown < (1 - thresholds) ** 2 / 4).any())
    assert broken <= stats.binom.isf(1e-4, 200, ERROR)
    assert shown[0] < 0.4  # 0.25 and some: not safe by being useless


def test_counts_of_fractions_are_refused():
    sample = CalibrationSample(*qualities(50))
    for count in ("negative_flips", "positive_flips", "correct"):
        with pytest.raises(ValueError, match="fractions"):
            getattr(sample, count)


def test_text_names_the_loss_and_none_keeps_accuracy():
    columns = [0.1, 0.5, 0.9], [0.5, 0.9, 1.0], [0.9, 1.0, 1.0]
    point = measure_threshold(*columns, 0.3, loss_name="Hamming loss")
    assert str(point).splitlines()[1] == (
        "Hamming loss: 0.0667 (student 0.2000, teacher 0.0333) on 3 examples."
    )
    named = dataclasses.replace(
        point,
        guarantees=[
            {"quantity": "expected_loss", "at_most": 0.1, "confidence": 0.95},
            {"quantity": "loss_increase", "at_most": 0.05, "confidence": 0.9},
            {"quantity": "accuracy", "at_least": 0.9, "confidence": 0.95},
            {"quantity": "accuracy_drop", "at_most": 0.05, "confidence": 0.9},
        ],
    )
    assert (
        str(named).splitlines()[2]
        == (
            "Guaranteed of new examples: "
            + 2
            * "a mean Hamming loss of at most 0.1 (confidence 95 %); a mean "
            "Hamming loss at most 0.05 above the teacher's (confidence 90 %); "
        )[:-2]
        + "."
    )
    plain = measure_threshold(*columns, 0.3)
    assert str(plain).splitlines()[1] == (
        "Accuracy 93.33 % (student 80.00 %, teacher 96.67 %) on 3 examples."
    )
    assert (
        guarantee_sentence(
            {"quantity": "loss_increase", "at_most": 0.05, "confidence": 0.9}
        )
        == "a mean loss at most 0.05 above the teacher's (confidence 90 %)"
    )


def test_dicts_without_a_loss_name_are_read():
    point = measure_threshold([0.1, 0.9], [0.5, 1], [1, 1], 0.5, loss_name="L")
    values = json.loads(json.dumps(point.to_dict()))
    assert OperatingPoint.from_dict(values) == point
    del values["loss_name"]
    assert OperatingPoint.from_dict(values).loss_name is None


def test_scored_examples_carry_the_name_of_their_loss():
    columns = qualities(2_000)
    results = kc.evaluation.ExampleResults(*columns, loss_name="capped error")
    point = kc.calibration.thresholds.calibrate(
        results, kc.MaxExpectedLoss(0.12, confidence=0.95)
    )
    assert point.loss_name == "capped error"
    assert str(point).splitlines()[1].startswith("Capped error: 0.")
    assert results.deferral_curve().loss_name == "capped error"
