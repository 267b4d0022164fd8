"""Frequency of broken guarantees, and excess delegation, per objective.

    python -m benchmarks.guarantees --json [--quick]

Draws many calibration sets, lets each objective with a confidence of 0.95
choose a threshold, and compares with the truth at that threshold.
`broken_share`: share of calibration sets whose guarantee did not hold; at most
0.05 plus two standard errors is expected. `wasted_delegation`: mean distance of
the thresholds from the true best, in points of delegation; an error counts as
delegating everything (for budgets: nothing). `unavoidable`: the same for a
normal test with known variances, on as many examples. `misuse`: populations
in which a guarantee is asked for in ways that could spend its confidence
(absent groups, the figures of a refusal, several points, fished seeds, a
temperature fitted with outliers). Scenarios of `classes` are of objectives on
one class and on costs, and of thresholds per predicted class: their guarantee
is broken where it is in any class. Scenarios of `losses` are of mean losses in
[0, 1]: with 20 labels per example, in regression, and of real pictures of
digits, for which four labels (even, at least 5, prime, has a loop) or the ink
in the lower half are predicted.
"""

import json
import subprocess
import sys
import time

import keras
import numpy as np

import keras_cascade as kc
from benchmarks.bounded_losses import loss_scenarios
from benchmarks.class_objectives import on_answer_resplits, on_population
from benchmarks.harness import options, show
from benchmarks.misuse import holds, misuse
from benchmarks.objectives_under_test import (
    objectives_under_test,
    what_to_ask,
)
from benchmarks.populations import CLASSES, synthetic
from keras_cascade.calibration import fit_threshold

BATCH = 256
ERROR = 0.05
SIZE = 5_000
SYNTHETIC_SETS = 1_000
RESPLITS = 200
DISTINCT = 150
UNREACHABLE = kc.MaxDelegationRate(0.9, confidence=0.95)
#: 20 % of the classes make 80 % of the requests.
FREQUENCIES = {c: 0.4 if c < 2 else 0.025 for c in range(CLASSES)}
#: Data spec -> (training examples, epochs of teacher and student, size of a
#: calibration set). What is left is scored, split, and checked on the rest.
REAL = {
    "fashion_mnist": (15_000, 5, 6, 5_000),
    "digits": (400, 30, 60, 280),
}
MEASURE_SEARCH = """
import json, os, time
import numpy as np
from keras_cascade.calibration import *
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one core
rng = np.random.default_rng(0)
scores = rng.random(1_000_000)
student = rng.random(1_000_000) < 1 - 0.62 * (1 - scores) ** 2
teacher = rng.random(1_000_000) < 1 - 0.24 * (1 - scores) ** 2
right = student, teacher
part = rng.integers(0, 4, 1_000_000) / 20
qualities = student - part * student, teacher - part * teacher
def megabytes(name):
    status = open("/proc/self/status").read().split()
    return int(status[status.index(name + ":") + 1]) / 1024
open("/proc/self/clear_refs", "w").write("5")  # forgets the peak so far
before, seconds = megabytes("VmRSS"), {}
for name, (columns, objective) in {
    "MaxAccuracyDrop": (right, MaxAccuracyDrop(0.02, confidence=0.95)),
    "MaxDelegationRate": (right, MaxDelegationRate(0.3, confidence=0.95)),
    "MinAccuracy": (right, MinAccuracy(0.9, confidence=0.95)),
    "MaxLossIncrease": (qualities, MaxLossIncrease(0.02, confidence=0.95)),
    "MaxExpectedLoss": (qualities, MaxExpectedLoss(0.2, confidence=0.95)),
}.items():
    start = time.perf_counter()
    fit_threshold(scores, *columns, objective)
    seconds[name] = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "mb": megabytes("VmHWM") - before}))
"""


class Tally:
    """Counts of kept, broken and impossible guarantees of one objective."""

    def __init__(self):
        self.broken, self.refused, self.wasted = 0, 0, []

    def add(self, judge, objective, case, **kwargs):
        """Fits one threshold and compares it with the truth."""
        try:
            point = fit_threshold(*case, objective, **kwargs)
        except ValueError:
            self.refused += 1
            self.wasted.append(judge.wasted_by_failure())
            return
        self.broken += not judge.holds(point.threshold)
        self.wasted.append(judge.wasted(point.threshold))

    def result(self):
        """Returns a JSON-compatible dict."""
        sets = len(self.wasted)
        limit = ERROR + 2 * (ERROR * (1 - ERROR) / sets) ** 0.5
        return {
            "sets": sets,
            "broken_share": self.broken / sets,
            "broken_limit": limit,
            "holds": self.broken / sets <= limit,
            "refused": self.refused / sets,
            "wasted_delegation": 100 * float(np.mean(self.wasted)),
        }


class Tallies:
    """One `Tally` per objective."""

    def __init__(self):
        self._of = {}

    def add(self, judges, case, groups, labels, mix, seed):
        """Fits every objective's threshold to one calibration set.

        Args:
            judges: dict of objective name to `Judge`.
            case: `(scores, student_correct, teacher_correct)`.
            groups: int array `(examples,)`.
            labels: int array `(examples,)`.
            mix: `TrafficMix`, or `None`.
            seed: int.
        """
        weight = None if mix is None else mix.weights(labels)
        for name, judge in judges.items():
            self._of.setdefault(name, Tally()).add(
                judge,
                judge.objective(groups),
                case,
                sample_weight=weight,
                costs=judge.costs,
                seed=seed,
            )

    def result(self, judges, size):
        """Returns a JSON-compatible dict, with `unavoidable` from `judges`."""
        return {
            name: {
                **tally.result(),
                "unavoidable": 100 * judges[name].unavoidable(size),
            }
            for name, tally in self._of.items()
        }


def on_synthetic(sets, mix=None, distinct=None, size=SIZE):
    """Measures calibration sets from a population with a known truth."""
    population = synthetic(distinct)
    labels, groups = population.labels, population.groups
    weight = None if mix is None else mix.weights(labels)
    judges = objectives_under_test(
        population.scores,
        population.student,
        population.teacher,
        groups,
        what_to_ask("synthetic", population.teacher, groups, weight),
        weight,
    )
    rng = np.random.default_rng(1)
    tallies, refused = Tallies(), 0
    for seed in range(sets):
        *case, rows = population.draw(rng, size)
        tallies.add(judges, case, groups[rows], labels[rows], mix, seed)
        if distinct is not None:
            refused += _refuses(case, UNREACHABLE)
    result = tallies.result(judges, size)
    if distinct is not None:
        result["unreachable_rate_refused"] = refused / sets
    return result


def on_resplits(results, size, splits, mix=None):
    """Measures random calibration sets of real examples against the rest."""
    labels = results.labels
    groups = (labels >= CLASSES // 2).astype(int)
    columns = (results.scores, results.student_correct, results.teacher_correct)
    asked = what_to_ask(
        "real",
        results.teacher_correct,
        groups,
        None if mix is None else mix.weights(labels),
    )
    rng = np.random.default_rng(2)
    tallies = Tallies()
    for seed in range(splits):
        order = rng.permutation(len(labels))
        inside, outside = order[:size], order[size:]
        judges = objectives_under_test(
            *(column[outside] for column in columns),
            groups[outside],
            asked,
            None if mix is None else mix.weights(labels[outside]),
        )
        case = [column[inside] for column in columns]
        tallies.add(judges, case, groups[inside], labels[inside], mix, seed)
    # The judges of the last split: they differ little.
    return tallies.result(judges, size)


def _refuses(case, objective):
    try:
        fit_threshold(*case, objective)
    except ValueError:
        return True
    return False


def search():
    """Measures seconds and megabytes of a search over a million scores."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE_SEARCH],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout)


def _scored_examples(spec, training, teacher_epochs, student_epochs, seed=0):
    """Trains a cascade on part of a data set and scores the rest.

    Args:
        spec: str, data spec of images.
        training: int, number of training examples.
        teacher_epochs: int.
        student_epochs: int.
        seed: int. Defaults to `0`.

    Returns:
        `keras_cascade.evaluation.ExampleResults` of the examples that were not
        trained on.
    """
    keras.utils.set_random_seed(seed)
    x, y, splits = _whole_data_set(spec)
    order = np.random.default_rng(seed).permutation(len(y))
    inside, outside = order[:training], order[training:]
    teacher = kc.models.image_teacher(splits.input_shape, splits.classes, 16)
    teacher.compile(
        optimizer=keras.optimizers.Adam(2e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    teacher.fit(
        x[inside], y[inside], batch_size=64, epochs=teacher_epochs, verbose=0
    )
    cascade = kc.Cascade(
        teacher, kc.models.image_student(splits.input_shape, splits.classes, 4)
    )
    cascade.compile(optimizer=keras.optimizers.Adam(5e-3))
    cascade.fit(
        x[inside], y[inside], batch_size=64, epochs=student_epochs, verbose=0
    )
    return cascade.judge((x[outside], y[outside]), batch_size=BATCH)


def _whole_data_set(spec):
    """Returns inputs, labels and splits of all parts together."""
    splits = kc.datasets.load(spec)
    parts = [
        batch
        for split in (splits.train, splits.calibration, splits.test)
        for batch in split.batch(4096).as_numpy_iterator()
    ]
    x = np.concatenate([part[0] for part in parts])
    y = np.concatenate([part[1] for part in parts])
    return x, y, splits


def main():
    """Runs the benchmark and prints its results."""
    arguments = options(__doc__)
    start = time.perf_counter()
    sets = 100 if arguments.quick else SYNTHETIC_SETS
    splits = 40 if arguments.quick else RESPLITS
    mix = kc.TrafficMix(FREQUENCIES)
    scenarios = {
        "synthetic": on_synthetic(sets),
        "synthetic, 20/80 traffic": on_synthetic(sets, mix=mix),
        "synthetic, 20/80 traffic, 20,000 examples": on_synthetic(
            sets // 4, mix=mix, size=4 * SIZE
        ),
        "synthetic, 150 scores": on_synthetic(sets, distinct=DISTINCT),
    }
    for spec in ["digits"] if arguments.quick else REAL:
        training, teacher_epochs, student_epochs, size = REAL[spec]
        results = _scored_examples(
            spec, training, teacher_epochs, student_epochs
        )
        scenarios[spec] = on_resplits(results, size, splits)
        scenarios[f"{spec}, 20/80 traffic"] = on_resplits(
            results, size, splits, mix
        )
        scenarios[f"classes, {spec}"] = on_answer_resplits(
            results, size, splits
        )
    scenarios["classes, synthetic"] = on_population(sets // 2, SIZE)
    scenarios["classes, synthetic, 20/80 traffic"] = on_population(
        sets // 4, SIZE, mix
    )
    few_losses = (25, 40) if arguments.quick else (sets, splits)
    scenarios |= loss_scenarios(*few_losses, SIZE)
    few = misuse(sets // 2, SIZE // 2)
    searched = search()
    main_scenario = (
        scenarios["synthetic"]
        | scenarios["classes, synthetic"]
        | scenarios["losses, 20 labels"]
        | scenarios["losses, regression"]
    )
    show(
        {
            "broken_share": {
                name: one["broken_share"] for name, one in main_scenario.items()
            },
            "wasted_delegation": {
                name: one["wasted_delegation"]
                for name, one in main_scenario.items()
            },
            "search_seconds_1e6": max(searched["seconds"].values()),
            "search_mb_1e6": searched["mb"],
            "search": searched["seconds"],
            "every_guarantee_holds": all(
                one["holds"]
                for scenario in scenarios.values()
                for one in scenario.values()
                if isinstance(one, dict)
            )
            and all(map(holds, few.values())),
            "misuse": few,
            "scenarios": scenarios,
            "calibration_examples": {
                "synthetic": SIZE,
                **{spec: size for spec, (*_, size) in REAL.items()},
            },
            "seconds": time.perf_counter() - start,
        },
        arguments.json,
    )


if __name__ == "__main__":
    main()
