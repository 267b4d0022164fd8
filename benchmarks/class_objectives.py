"""Guarantees on one class, on costs, and with thresholds per class.

A table of examples is the truth: calibration sets are drawn from it with
replacement, or are a part of it that is compared with the rest.
"""

import copy

import numpy as np

import keras_cascade as kc
from keras_cascade.calibration import fit_threshold
from keras_cascade.evaluation import delegated_at

CLASSES = 10
ERROR = 0.05
NORMAL = 1.6449  # the normal law's 0.95 quantile
#: Three classes are predicted for about as few of 5,000 examples as are
#: pooled, two for fewer.
FREQUENCIES = (0.25, 0.2, 0.2, 0.15, 0.11, 0.022, 0.02, 0.018, 0.02, 0.01)
CLASS = 3
MIN_EXAMPLES = 100
COLUMNS = ("scores", "labels", "student_labels", "teacher_labels")


def synthetic_answers(rows=50_000, seed=0):
    """Table of a population: scores, right labels and both answers.

    Both models are right more often where the score is high, and less often
    for the later classes.
    """
    rng = np.random.default_rng(seed)
    labels = rng.choice(CLASSES, rows, p=FREQUENCIES)
    scores = rng.random(rows).astype("float32")
    hardness = (1 - scores) ** 2 * (0.7 + 0.06 * labels)
    columns = {"scores": scores, "labels": labels}
    for name, share in (("student_labels", 0.62), ("teacher_labels", 0.24)):
        other = rng.choice(CLASSES, rows, p=FREQUENCIES)
        other = np.where(other == labels, (labels + 1) % CLASSES, other)
        wrong = rng.random(rows) < share * hardness
        columns[name] = np.where(wrong, other, labels)
    return columns


class Table:
    """Examples that are the truth about a threshold.

    Args:
        columns: dict of the arrays `COLUMNS`.
        weight: float array `(rows,)`, or `None`.
    """

    def __init__(self, columns, weight=None):
        self.columns, self.weight = columns, weight
        weights = np.ones(len(columns["labels"])) if weight is None else weight
        self.share = weights / weights.sum()

    def part(self, rows):
        """`Table` of some rows."""
        return Table(
            {name: values[rows] for name, values in self.columns.items()},
            None if self.weight is None else self.weight[rows],
        )

    def fit(self, objective, **kwargs):
        """`OperatingPoint` of an objective on these examples."""
        columns = self.columns
        return fit_threshold(
            columns["scores"],
            columns["student_labels"] == columns["labels"],
            columns["teacher_labels"] == columns["labels"],
            objective,
            self.weight,
            labels=columns["labels"],
            classes=CLASSES,
            student_labels=columns["student_labels"],
            teacher_labels=columns["teacher_labels"],
            **kwargs,
        )

    def delegated(self, threshold):
        """Bool array `(rows,)`."""
        columns = self.columns
        return delegated_at(
            columns["scores"], threshold, columns["student_labels"]
        )

    def rate(self, threshold):
        """Delegation rate of a threshold."""
        return float(self.share[self.delegated(threshold)].sum())

    def values(self, objective, delegated):
        """`(value, counts)` of each example where some are delegated.

        The guaranteed quantity is the mean of `value` among those that count.
        """
        right, student, teacher = (self.columns[name] for name in COLUMNS[1:])
        answer = np.where(delegated, teacher, student)
        every = np.ones(len(right), dtype=bool)
        quantity = objective.quantity
        if quantity == "accuracy_drop":
            return 1.0 * (teacher == right) - (answer == right), every
        if quantity == "accuracy":
            return answer == right, every
        if quantity == "delegation_rate":
            return delegated, every
        if quantity == "expected_cost":
            return np.asarray(objective.matrix)[right, answer], every
        says, is_class = answer == objective.class_, right == objective.class_
        return {
            "precision": (is_class, says),
            "recall": (says, is_class),
            "false_alarm_rate": (says, ~is_class),
        }[quantity]

    def slack(self, objective, delegated, rows=slice(None)):
        """`(margin, spread)` of an objective among some rows.

        The margin is negative where it is broken; the spread is the standard
        deviation of its estimate, times the root of the number of examples.
        """
        value, counts = self.values(objective, delegated)
        weight = (self.share * counts)[rows]
        total = weight.sum()
        if not total:
            return -1.0, np.inf
        value = 1.0 * value[rows]
        mean = (weight * value).sum() / total
        squares = (weight * (value - mean)) ** 2
        limit = getattr(objective, objective.limit)
        margin = limit - mean if objective.side == "at_most" else mean - limit
        return margin, np.sqrt(len(self.share) * squares.sum()) / total


class Case:
    """An objective with the truth about it on a table.

    Args:
        objectives: list of objectives with a confidence, all of them met.
        table: `Table`.
        size: int, examples of a calibration set.
        per_class: bool.
    """

    def __init__(self, objectives, table, size, per_class=False):
        self.objectives, self.table = objectives, table
        self._kwargs = {"per_class": per_class} if per_class else {}
        if per_class:
            self._kwargs["min_class_examples"] = MIN_EXAMPLES
        self._budget = objectives[0].spends_budget
        empirical = [copy.copy(one) for one in objectives]
        for one in empirical:
            one.confidence = None
        scale = len(table.columns["labels"]) / size
        groups = dict(self._kwargs)
        if per_class:
            groups["min_class_examples"] = round(MIN_EXAMPLES * scale)
        self._best = table.fit(empirical, **groups).delegation_rate
        self._sets, self._broken, self._refused = 0, 0, 0
        self._wasted = []

    def add(self, sample, table, seed):
        """Fits one calibration set and compares with the truth on a table."""
        self._sets += 1
        try:
            point = sample.fit(self.objectives, seed=seed, **self._kwargs)
        except ValueError:
            self._refused += 1
            self._wasted.append(self._distance(0.0 if self._budget else 1.0))
            return
        threshold = point.decision_threshold
        delegated = table.delegated(threshold)
        predicted = table.columns["student_labels"]
        groups = [np.arange(CLASSES)]
        if point.class_thresholds is not None:
            pooled = point.pooled_classes
            groups += [[c] for c in range(CLASSES) if c not in pooled]
            groups += [pooled] if pooled else []
        self._broken += any(
            table.slack(one, delegated, np.isin(predicted, group))[0] < -1e-12
            for one in self.objectives
            for group in groups
        )
        self._wasted.append(self._distance(table.rate(threshold)))

    def _distance(self, rate):
        gap = self._best - rate if self._budget else rate - self._best
        return max(gap, 0.0)

    def unavoidable(self, size):
        """Waste of a normal test with known variances, of one threshold."""
        if self._kwargs or self._budget:
            return None
        rates = np.linspace(0, 1, 101)
        scores = self.table.columns["scores"]
        order = np.argsort(scores, kind="stable")
        share = np.cumsum(self.table.share[order])
        for rate in rates[rates >= self._best].tolist():
            index = np.searchsorted(share, rate)
            if index >= len(scores):
                break
            delegated = self.table.delegated(float(scores[order[index]]))
            slacks = [self.table.slack(o, delegated) for o in self.objectives]
            if all(m >= NORMAL * s / np.sqrt(size) for m, s in slacks):
                return 100 * self._distance(rate)
        return 100 * self._distance(1.0)

    def result(self, size):
        """Returns a JSON-compatible dict."""
        limit = ERROR + 2 * (ERROR * (1 - ERROR) / self._sets) ** 0.5
        broken = self._broken / self._sets
        return {
            "sets": self._sets,
            "broken_share": broken,
            "broken_limit": limit,
            "holds": broken <= limit,
            "refused": self._refused / self._sets,
            "wasted_delegation": 100 * float(np.mean(self._wasted)),
            "unavoidable": self.unavoidable(size),
        }


def cases(table, size, per_class):
    """Dict of name to `Case`; limits are a little worse than the teacher.

    The fewer examples a calibration set has, the more they are.
    """
    slack = max((5_000 / size) ** 0.5, 1.0)
    everything = np.ones(len(table.columns["labels"]), dtype=bool)
    rng = np.random.default_rng(3)
    matrix = rng.choice([0.5, 1.0, 5.0], (CLASSES, CLASSES), p=[0.3, 0.5, 0.2])
    np.fill_diagonal(matrix, 0.0)

    def of_teacher(objective):
        margin, _ = table.slack(objective, everything)
        limit = getattr(objective, objective.limit)
        return limit - margin if objective.side == "at_most" else limit + margin

    precision = of_teacher(kc.MinPrecision(CLASS, 0.0)) - 0.05 * slack
    recall = of_teacher(kc.MinRecall(CLASS, 0.0)) - 0.05 * slack
    alarms = of_teacher(kc.MaxFalseAlarmRate(CLASS, 1.0)) + 0.008 * slack
    cost = of_teacher(kc.MaxExpectedCost(matrix, 1.0))
    cost *= 1 + 0.4 * slack

    predicted = table.columns["student_labels"]
    accuracy = kc.MinAccuracy(0.0)
    least = min(
        table.slack(accuracy, everything, predicted == c)[0]
        for c in range(CLASSES)
    )

    def one(objective):
        return Case([objective], table, size)

    made = {
        "MinPrecision": one(kc.MinPrecision(CLASS, precision, confidence=0.95)),
        "MinRecall": one(kc.MinRecall(CLASS, recall, confidence=0.95)),
        "MaxFalseAlarmRate": one(
            kc.MaxFalseAlarmRate(CLASS, alarms, confidence=0.95)
        ),
        "MaxExpectedCost": one(
            kc.MaxExpectedCost(matrix, cost, confidence=0.95)
        ),
        "precision, recall and cost, joint": Case(
            [
                kc.MinPrecision(CLASS, precision, confidence=1 - ERROR / 3),
                kc.MinRecall(CLASS, recall, confidence=1 - ERROR / 3),
                kc.MaxExpectedCost(matrix, cost, confidence=1 - ERROR / 3),
            ],
            table,
            size,
        ),
    }
    if per_class:
        for name, objective in {
            "MaxAccuracyDrop": kc.MaxAccuracyDrop(0.04, confidence=0.95),
            "MaxDelegationRate": kc.MaxDelegationRate(0.4, confidence=0.95),
            "MinAccuracy": kc.MinAccuracy(
                least - (0.12 if table.weight is None else 0.2), confidence=0.95
            ),
        }.items():
            made[f"{name}, per class"] = Case([objective], table, size, True)
    return made


def on_population(sets, size, mix=None):
    """Broken shares over calibration sets drawn from the population."""
    columns = synthetic_answers()
    weight = None if mix is None else mix.weights(columns["labels"])
    table = Table(columns, weight)
    made = cases(table, size, per_class=True)
    rng = np.random.default_rng(4)
    for seed in range(sets):
        sample = table.part(rng.integers(0, len(columns["labels"]), size))
        for name, case in made.items():
            if "per class" in name and seed >= sets // 2:
                continue  # many tests of counts that differ take their time
            case.add(sample, table, seed)
    return {name: case.result(size) for name, case in made.items()}


def on_answer_resplits(results, size, splits, mix=None):
    """Broken shares of random parts of real examples against the rest.

    Args:
        results: `ExampleResults`.
        size: int, examples of a part.
        splits: int.
        mix: `TrafficMix`, or `None`.
    """
    columns = {name: np.asarray(getattr(results, name)) for name in COLUMNS}
    weight = None if mix is None else mix.weights(columns["labels"])
    table = Table(columns, weight)
    made = cases(table, size, per_class=size >= 20 * MIN_EXAMPLES)
    rng = np.random.default_rng(5)
    for seed in range(splits):
        order = rng.permutation(len(columns["labels"]))
        sample, rest = table.part(order[:size]), table.part(order[size:])
        for case in made.values():
            case.add(sample, rest, seed)
    return {name: case.result(size) for name, case in made.items()}
