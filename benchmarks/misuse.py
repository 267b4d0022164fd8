"""Broken share of guarantees that are asked for in ways that may spend them."""

import re

import numpy as np
import scipy.special

import keras_cascade as kc
from benchmarks.populations import CLASSES, Truth, synthetic
from keras_cascade.calibration import fit_threshold, fit_thresholds
from keras_cascade.gates.temperature_gate import best_temperature

CONFIDENCE = 0.95
FIGURE = re.compile(r"group (\w+): of .*? at least (\d\.\d+)")
SEEDS = 10
RATES = (0.1, 0.2, 0.3, 0.4, 0.5)
#: 20 % of the classes make 80 % of the requests.
FREQUENCIES = {c: 0.4 if c < 2 else 0.025 for c in range(CLASSES)}


def misuse(sets, size):
    """Measures each population.

    Args:
        sets: int, number of calibration sets of each.
        size: int, examples of a set.

    Returns:
        JSON-compatible dict of population to `sets`, `broken_share` and
        `stated`, the share that may break. `fished_seeds_unpaid` shows what
        the documentation warns of and states nothing.
    """
    counts = {}
    for name, measure in POPULATIONS.items():
        world = synthetic(rows=50_000)
        outcomes = [measure(world, seed, size) for seed in range(sets)]
        for key in outcomes[0]:
            broken = np.mean([one[key] for one in outcomes])
            counts[key if key != "broken" else name] = {
                "sets": sets,
                "broken_share": float(broken),
                "stated": None if key.endswith("unpaid") else 1 - CONFIDENCE,
            }
    return counts


def holds(entry):
    """True where the broken share is within what is stated."""
    error = entry["stated"]
    if error is None:
        return True
    limit = error + 2 * (error * (1 - error) / entry["sets"]) ** 0.5
    return entry["broken_share"] <= limit


def _group_truths(world, groups):
    return {
        str(g): Truth(
            world.scores[groups == g],
            world.student[groups == g],
            world.teacher[groups == g],
        )
        for g in np.unique(groups)
    }


def _breaks_floors(point, truths):
    (guarantee,) = point.guarantees
    floors = guarantee["at_least"]
    # A guarantee of every group is one of groups that were not there as well.
    if not isinstance(floors, dict):
        floors = dict.fromkeys(truths, floors)
    return any(
        truths[group].at(point.threshold)["accuracy"] < floor
        for group, floor in floors.items()
    )


def _absent_groups(world, seed, size):
    """A class that is hard, and whose examples are absent from the set."""
    rng = np.random.default_rng(seed)
    *case, rows = world.draw(rng, size)
    labels = world.labels[rows]
    there = labels != 3
    student = np.where(world.labels == 3, 0.0, world.student)
    hard = type(world)(
        world.scores, student, world.teacher, world.labels, world.groups
    )
    case = [column[there] for column in case]
    try:
        point = fit_threshold(
            *case,
            kc.MinGroupAccuracy("class", 0.85, confidence=CONFIDENCE),
            labels=labels[there],
        )
    except ValueError:
        return {"broken": False}
    return {"broken": _breaks_floors(point, _group_truths(hard, hard.labels))}


def _retry_after_refusal(world, seed, size):
    """The figures of a refusal are asked for once more, on the same set."""
    rng = np.random.default_rng(seed)
    *case, rows = world.draw(rng, size)
    labels = world.labels[rows]
    try:
        fit_threshold(
            *case,
            kc.MinGroupAccuracy("class", 0.99, confidence=CONFIDENCE),
            labels=labels,
        )
    except ValueError as error:
        floors = {g: float(f) for g, f in FIGURE.findall(str(error))}
    point = fit_threshold(
        *case,
        kc.MinGroupAccuracy("class", floors, confidence=CONFIDENCE),
        labels=labels,
    )
    return {"broken": _breaks_floors(point, _group_truths(world, world.labels))}


def _several_points(world, seed, size):
    """Five budgets at once, with one confidence for all."""
    rng = np.random.default_rng(seed)
    *case, _ = world.draw(rng, size)
    truth = Truth(world.scores, world.student, world.teacher)
    points = fit_thresholds(
        *case,
        {
            f"{rate:g}": kc.MaxDelegationRate(rate, confidence=CONFIDENCE)
            for rate in RATES
        },
        joint=True,
    )
    return {
        "broken": any(
            truth.at(points[f"{rate:g}"].threshold)["rate"] > rate
            for rate in RATES
        )
    }


def _fished_seeds(world, seed, size):
    """The seed of ten that allows most, with and without paying for it."""
    rng = np.random.default_rng(seed)
    *case, rows = world.draw(rng, size)
    mix = kc.TrafficMix(FREQUENCIES)
    weight = mix.weights(world.labels[rows])
    truth = Truth(
        world.scores, world.student, world.teacher, mix.weights(world.labels)
    )
    limit, broken = 0.3, {}
    for name, error in (
        ("fished_seeds_unpaid", 1 - CONFIDENCE),
        ("broken", (1 - CONFIDENCE) / SEEDS),
    ):
        objective = kc.MaxDelegationRate(limit, confidence=1 - error)
        highest = max(
            fit_threshold(
                *case, objective, sample_weight=weight, seed=draw
            ).threshold
            for draw in range(SEEDS)
        )
        broken[name] = truth.at(highest)["rate"] > limit
    return broken


def _temperature_outliers(world, seed, size):
    """A temperature fitted with masked classes and an outlier scores the set.

    Logits of five classes, drawn so that T = 2 is right; three more classes
    are masked by -1e9, and one row has a logit of 1e5. The teacher is right
    on 0.95. The truth is measured on another, larger draw.
    """
    rng = np.random.default_rng(seed)

    def draw(rows):
        logits = rng.normal(size=(rows, 5)) * 4
        chance = scipy.special.softmax(logits / 2, axis=1).cumsum(axis=1)
        labels = (chance < rng.random((rows, 1))).sum(axis=1).clip(max=4)
        return logits, labels

    logits, labels = draw(2_000)
    logits[0, labels[0]] = 1e5
    masked = np.concatenate([logits, np.full((2_000, 3), -1e9)], axis=1)
    temperature = best_temperature(masked, labels)

    def scored(rows):
        logits, labels = draw(rows)
        shares = scipy.special.softmax(
            logits.astype("float32") / np.float32(temperature), axis=1
        )
        right = logits.argmax(axis=1) == labels
        return shares.max(axis=1), right, rng.random(rows) < 0.95

    try:
        point = fit_threshold(
            *scored(size), kc.MaxAccuracyDrop(0.03, confidence=CONFIDENCE)
        )
    except ValueError:
        return {"broken": True}  # all scores the same: of no use
    drop = Truth(*scored(50_000)).at(point.threshold)["drop"]
    return {"broken": drop > 0.03}


POPULATIONS = {
    "absent_groups": _absent_groups,
    "retry_after_refusal": _retry_after_refusal,
    "several_points": _several_points,
    "fished_seeds": _fished_seeds,
    "temperature_outliers": _temperature_outliers,
}
