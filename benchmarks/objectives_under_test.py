"""Objectives with a confidence, and the truth about their thresholds."""

import numpy as np

import keras_cascade as kc
from benchmarks.populations import Truth
from keras_cascade.evaluation import Costs

CONFIDENCE = 0.95
NORMAL = 1.6449  # the normal law's 0.95 quantile
MAX_RATE = 0.3
MAX_DROP = 0.03
ACCURACY_BELOW_TEACHER = 0.04
GROUP_BELOW_TEACHER = {"synthetic": 0.1, "real": 0.06}
COSTS = Costs(0.1, 1.0, "teacher passes", "given")


class Judge:
    """True values of one objective's guarantee at every threshold.

    Args:
        make: function from the groups of calibration examples to the
            `Objective`.
        everyone: `Truth`.
        slack: function from thresholds to a list of pairs of arrays: the
            margin by which each part of the guarantee holds, and the standard
            deviation of its estimate, times the root of the number of
            examples.
        budget: bool, whether more delegation is better. Defaults to `False`.
    """

    costs = COSTS

    def __init__(self, make, everyone, slack, budget=False):
        self.objective = make
        self._everyone = everyone
        self._slack = slack
        self._budget = budget
        self._best = self._best_rate(0.0)

    def holds(self, threshold):
        """Returns true if the guarantee holds at a threshold."""
        return all(margin >= -1e-12 for margin, _ in self._slack(threshold))

    def wasted(self, threshold):
        """Distance of the delegation rate from the true best one."""
        return self._distance(self._everyone.at(threshold)["rate"])

    def wasted_by_failure(self):
        """The same distance where no threshold was found."""
        return self._distance(0.0 if self._budget else 1.0)

    def unavoidable(self, examples):
        """The same distance for a normal test with known variances."""
        return self._distance(self._best_rate(NORMAL / np.sqrt(examples)))

    def _best_rate(self, deviations):
        thresholds = self._everyone.thresholds
        good = np.ones(len(thresholds), dtype=bool)
        for margin, spread in self._slack(thresholds):
            good &= margin >= deviations * spread - 1e-12
        rates = self._everyone.at(thresholds)["rate"][good]
        if rates.size == 0:
            return 0.0 if self._budget else 1.0
        return rates.max() if self._budget else rates.min()

    def _distance(self, rate):
        gap = self._best - rate if self._budget else rate - self._best
        return max(float(gap), 0.0)


def what_to_ask(kind, teacher, groups, weight=None):
    """Accuracy floors that the student alone does not reach.

    Args:
        kind: `"synthetic"` or `"real"`.
        teacher: array `(rows,)`, P(teacher right) or 0 and 1.
        groups: int array `(rows,)` of 0 and 1.
        weight: array `(rows,)`, or `None`.

    Returns:
        `(floor, floors)`: of everyone, and a dict of group to floor.
    """
    weight = np.ones(len(teacher)) if weight is None else weight

    def accuracy(rows):
        return float(np.average(teacher[rows], weights=weight[rows]))

    floors = {
        str(group): accuracy(groups == group) - GROUP_BELOW_TEACHER[kind]
        for group in (0, 1)
    }
    return accuracy(slice(None)) - ACCURACY_BELOW_TEACHER, floors


def objectives_under_test(scores, student, teacher, groups, asked, weight=None):
    """Makes a dict of objective name to `Judge`.

    Args:
        scores: float array `(rows,)`.
        student: array `(rows,)`, P(student right) or 0 and 1.
        teacher: array `(rows,)`, P(teacher right) or 0 and 1.
        groups: int array `(rows,)` of 0 and 1.
        asked: `(floor, floors)`, as `what_to_ask` returns it.
        weight: array `(rows,)`, or `None`.
    """
    floor, floors = asked
    weight = np.ones(len(scores)) if weight is None else weight
    everyone = Truth(scores, student, teacher, weight)
    within = {}
    for group in (0, 1):
        rows = groups == group
        columns = (scores, student, teacher, weight)
        truth = Truth(*(column[rows] for column in columns))
        within[str(group)] = (truth, rows.mean())

    def spread(variance, truth=everyone, share=1.0):
        return np.sqrt(np.clip(variance, 0, 1) / (share * truth.worth))

    def rate(thresholds):
        delegated = everyone.at(thresholds)["rate"]
        variance = delegated * (1 - delegated)
        return [(MAX_RATE - delegated, spread(variance))]

    def drop(thresholds):
        at = everyone.at(thresholds)
        return [(MAX_DROP - at["drop"], spread(at["drop_variance"]))]

    def accuracy(truth, floor, thresholds, share=1.0):
        right = truth.at(thresholds)["accuracy"]
        return right - floor, spread(right * (1 - right), truth, share)

    def every_group(thresholds):
        return [
            accuracy(truth, floors[group], thresholds, share)
            for group, (truth, share) in within.items()
        ]

    def budget(objective):
        return Judge(lambda _: objective, everyone, rate, budget=True)

    return {
        "MaxDelegationRate": budget(
            kc.MaxDelegationRate(MAX_RATE, confidence=CONFIDENCE)
        ),
        "MaxCost": budget(
            kc.MaxCost(COSTS.amortized(MAX_RATE), confidence=CONFIDENCE)
        ),
        "MaxAccuracyDrop": Judge(
            lambda _: kc.MaxAccuracyDrop(MAX_DROP, confidence=CONFIDENCE),
            everyone,
            drop,
        ),
        "MinAccuracy": Judge(
            lambda _: kc.MinAccuracy(floor, confidence=CONFIDENCE),
            everyone,
            lambda thresholds: [accuracy(everyone, floor, thresholds)],
        ),
        "MinGroupAccuracy": Judge(
            lambda groups: kc.MinGroupAccuracy(
                groups, floors, confidence=CONFIDENCE
            ),
            everyone,
            every_group,
        ),
    }
