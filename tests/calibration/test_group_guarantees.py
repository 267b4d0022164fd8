"""Guarantees of groups: which groups they name, and what a refusal costs."""

import re

import numpy as np
import pytest
from scipy import stats

import keras_cascade as kc
from keras_cascade.calibration import (
    AllOf,
    MaxAccuracyDrop,
    MinAccuracy,
    MinGroupAccuracy,
    calibrate,
    fit_threshold,
)
from keras_cascade.calibration.guarantees import guarantee_sentence
from keras_cascade.evaluation import ExampleResults

ERROR = 0.05
FIGURE = re.compile(r"group (\w+): of .*? at least (\d\.\d+)")


def examples(n, classes=5, absent=(), seed=0, accuracy=0.95):
    """Scores and correctness of classes, some of which never come."""
    rng = np.random.default_rng(seed)
    labels = rng.choice([c for c in range(classes) if c not in absent], n)
    scores = rng.random(n)
    student = rng.random(n) < accuracy - 0.5 * (1 - scores)
    return (scores, student, rng.random(n) < accuracy), labels


# Groups that are not in the calibration examples.


def test_a_guarantee_names_the_groups_that_were_there():
    case, labels = examples(3000, absent=(3,))
    objective = MinGroupAccuracy("class", 0.9, confidence=0.95)
    point = fit_threshold(*case, objective, labels=labels)
    (guarantee,) = point.guarantees
    assert guarantee["at_least"] == dict.fromkeys("0124", 0.9)
    sentence = guarantee_sentence(guarantee)
    assert "90.00 % accurate in each of the groups 0 to 2, 4 " in sentence
    assert "every" not in sentence
    # With the dict that it names, the same threshold.
    named = MinGroupAccuracy("class", guarantee["at_least"], confidence=0.95)
    again = fit_threshold(*case, named, labels=labels)
    assert again.threshold == point.threshold


def test_groups_given_by_an_array_are_named_too():
    case, labels = examples(3000, classes=2)
    groups = np.array(["day", "night"])[labels]
    both = AllOf(
        [
            MinGroupAccuracy(groups, 0.9, confidence=0.95),
            MaxAccuracyDrop(0.1, confidence=0.95),
        ]
    )
    guarantee, drop = fit_threshold(*case, both).guarantees
    assert guarantee["at_least"] == {"day": 0.9, "night": 0.9}
    assert drop["quantity"] == "accuracy_drop"
    assert both.guarantees()[0]["at_least"] == 0.9


@pytest.mark.parametrize(
    ("absent", "names"),
    [
        ((3,), "class 3:"),
        ((0, 4), "classes 0, 4:"),
        ((1, 2, 3), "classes 1 to 3:"),
    ],
)
def test_an_absent_class_is_refused_where_the_classes_are_known(absent, names):
    case, labels = examples(3000, absent=absent)
    objective = MinGroupAccuracy("class", 0.9, confidence=0.95)
    results = ExampleResults(*case, labels=labels, classes=5)
    with pytest.raises(ValueError, match="there is none of") as caught:
        calibrate(results, objective)
    assert names in str(caught.value)
    # The way out that the message shows.
    there = {str(c): 0.9 for c in range(5) if c not in absent}
    named = MinGroupAccuracy("class", there, confidence=0.95)
    point = calibrate(results, named)
    assert point.guarantees[0]["at_least"] == there
    # Nothing is guaranteed without a confidence, and nothing refused.
    assert calibrate(results, MinGroupAccuracy("class", 0.9)).guarantees == []


def test_a_cascade_knows_its_classes(cascade, blobs):
    cascade.fit(*blobs(600), epochs=3, verbose=0)
    x, y = blobs(800, seed=3)
    objective = MinGroupAccuracy("class", 0.1, confidence=0.95)
    with pytest.raises(ValueError, match=r"none of class 2:.*4 classes"):
        cascade.calibrate((x[y != 2], y[y != 2]), objective)
    point = cascade.calibrate((x, y), objective)
    assert sorted(point.guarantees[0]["at_least"]) == ["0", "1", "2", "3"]


def test_whole_numbers_are_named_in_order():
    floors = {str(c): 0.9 for c in reversed(range(12))}
    words = guarantee_sentence(
        {
            "quantity": "group_accuracy",
            "at_least": {**floors, "3": 0.8, "rare": 0.8},
            "confidence": 0.95,
        }
    )
    assert "each of the groups 0 to 2, 4 to 11, " in words
    assert "80.00 % accurate in each of the groups 3, rare (conf" in words


@pytest.mark.parametrize("absent", [0, 3])
def test_named_groups_hold_as_often_as_stated(absent):
    """Simulation: 400 sets whose rarest class comes in about half of them.

    The truth: with everything above t kept, a class is right in
    a − 0.25·(1 − t)² of the examples (the integral of 0.5·(1 − s)).
    """
    accuracy, floor, broken, named = 0.95, 0.87, 0, 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        there = () if rng.random() < 0.5 else (absent,)
        case, labels = examples(1500, absent=there, seed=seed)
        point = fit_threshold(
            *case,
            MinGroupAccuracy("class", floor, confidence=0.95),
            labels=labels,
        )
        kept = 1 - np.clip(point.threshold, 0, 1)
        broken += accuracy - 0.25 * kept**2 < floor
        named += str(absent) in point.guarantees[0]["at_least"]
    assert 150 < named < 250
    # The same truth in every class: one broken floor is a broken guarantee.
    assert broken / 400 <= ERROR + 3 * np.sqrt(ERROR * (1 - ERROR) / 400)


# Figures in a refusal.


def refusal(case, objective, **options):
    with pytest.raises(ValueError, match="cannot be guaranteed") as caught:
        fit_threshold(*case, objective, **options)
    return str(caught.value)


def test_every_group_that_fails_is_named_with_its_figure():
    case, labels = examples(2000, classes=4)
    objective = MinGroupAccuracy(
        "class", {"0": 0.99, "1": 0.5, "2": 0.99}, confidence=0.95
    )
    message = refusal(case, objective, labels=labels)
    figures = dict(FIGURE.findall(message))
    assert sorted(figures) == ["0", "2"]
    for group, figure in figures.items():
        right = case[2][labels == int(group)]
        # Clopper and Pearson at 0.05 / 3², rounded down.
        lower = (
            stats.binomtest(int(right.sum()), len(right), alternative="greater")
            .proportion_ci(1 - ERROR / 9)
            .low
        )
        assert float(figure) == pytest.approx(lower - 5e-5, abs=5.1e-5)
        assert float(figure) <= lower
    assert "spends their confidence" in message
    # What is named can be had.
    floors = {
        **objective.min_accuracy,
        **{g: float(f) for g, f in figures.items()},
    }
    fit_threshold(
        *case,
        MinGroupAccuracy("class", floors, confidence=0.95),
        labels=labels,
    )


@pytest.mark.parametrize("groups", [5, 10])
def test_asking_again_with_the_figures_keeps_the_error(groups):
    """400 sets of groups whose teacher is right on 0.9 of the examples.

    At `error` for each group alone, 1 − 0.95^G would be broken: 0.23 and 0.40.
    """
    accuracy, sets, broken = 0.9, 400, 0
    for seed in range(sets):
        case, labels = examples(
            200 * groups, classes=groups, seed=seed, accuracy=accuracy
        )
        message = refusal(
            case,
            MinGroupAccuracy("class", 0.95, confidence=0.95),
            labels=labels,
        )
        floors = {g: float(f) for g, f in FIGURE.findall(message)}
        assert len(floors) == groups
        point = fit_threshold(
            *case,
            MinGroupAccuracy("class", floors, confidence=0.95),
            labels=labels,
        )
        kept = 1 - np.clip(point.threshold, 0, 1)
        broken += accuracy - 0.25 * kept**2 < max(floors.values())
    assert broken / sets <= ERROR + 3 * np.sqrt(ERROR * (1 - ERROR) / sets)


def test_every_figure_of_a_guarantee_says_what_it_spends():
    case, labels = examples(300)
    tied = (np.repeat([0.1, 0.9], 150), *case[1:])
    for arguments, objective in (
        (case, MinAccuracy(0.99, confidence=0.95)),
        (tied, kc.MaxDelegationRate(0.7, confidence=0.95)),
        (case, MinGroupAccuracy("class", 0.99, confidence=0.95)),
        (
            case,
            [
                MaxAccuracyDrop(0.05, confidence=0.95),
                kc.MaxDelegationRate(0.05, confidence=0.95),
            ],
        ),
    ):
        with pytest.raises(ValueError, match="spends their confidence"):
            fit_threshold(*arguments, objective, labels=labels)
    # Without a confidence there is nothing to spend.
    with pytest.raises(ValueError, match="Attainable") as caught:
        fit_threshold(*case, MinAccuracy(1.0))
    assert "spends" not in str(caught.value)


# Weights that leave nothing to count.


@pytest.mark.parametrize(
    "objective",
    [
        MinAccuracy(0.5, confidence=0.95),
        MaxAccuracyDrop(0.5, confidence=0.95),
        kc.MaxDelegationRate(0.5, confidence=0.95),
        MinGroupAccuracy("class", 0.5, confidence=0.95),
    ],
)
def test_a_largest_weight_that_leaves_no_example(objective):
    case, labels = examples(50)
    options = {"sample_weight": np.ones(50), "labels": labels}
    with pytest.raises(ValueError, match="leave no calibration example"):
        fit_threshold(*case, objective, max_weight=1e9, **options)
    for bad in (-1.0, np.nan, "much"):
        with pytest.raises(ValueError, match="`max_weight` to be a number"):
            fit_threshold(*case, objective, max_weight=bad, **options)


# Several guarantees at once.


def test_an_error_that_is_split():
    half = MaxAccuracyDrop(0.01, confidence=0.95).with_error_split(2)
    assert half.confidence == 0.975
    assert half.max_drop == 0.01
    both = AllOf([half, MinAccuracy(0.5)]).with_error_split(5)
    assert [o.confidence for o in both.objectives] == [0.995, None]
    assert both.confidence == 0.995


@pytest.mark.parametrize("joint", [False, True])
def test_several_points_hold_together_where_they_are_joint(joint):
    """Simulation: of two independent guarantees either may break.

    Delegation rates at two limits on scores that are uniform: the rate at t
    is t. `joint` splits the error, by which both hold as often as stated.
    """
    points, sets, broken = 8, 400, 0
    limits = np.linspace(0.1, 0.8, points)
    objectives = {
        f"{limit:.1f}": kc.MaxDelegationRate(limit, confidence=0.95)
        for limit in limits
    }
    right = np.ones(500, bool)
    for seed in range(sets):
        scores = np.random.default_rng(seed).random(500)
        found = kc.calibration.fit_thresholds(
            scores, right, right, objectives, joint=joint
        )
        assert list(found) == [one.name for one in found.values()]
        broken += any(
            found[name].threshold > limit
            for name, limit in zip(objectives, limits, strict=True)
        )
        confidence = 1 - 0.05 / points if joint else 0.95
        assert all(p.confidence == confidence for p in found.values())
    error = 3 * np.sqrt(ERROR * (1 - ERROR) / sets)
    if joint:
        assert broken / sets <= ERROR + error
    else:
        assert broken / sets > 2 * ERROR  # which is why


def test_points_without_a_confidence_take_no_part_of_the_error():
    case, labels = examples(500)
    found = kc.calibration.fit_thresholds(
        *case,
        {
            "sure": [kc.MaxDelegationRate(0.5, confidence=0.95)],
            "spend": kc.MaxDelegationRate(0.3),
        },
        joint=True,
        labels=labels,
    )
    assert found["sure"].confidence == 0.95
    assert found["spend"].confidence is None
