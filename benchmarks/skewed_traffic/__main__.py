"""Class-specific distillation against baselines under skewed traffic.

    python -m benchmarks.skewed_traffic --json --data FOLDER [--quick]

Banking77's 77 intents, of which 20 make 80 % of the requests. Students are
bags of words squeezed through 2, 4, 8 and 16 units. Class-specific and abstain
distillation compete with cross-entropy, label smoothing and distillation; all
are weighted by the traffic in training and in every number, and have the
margin gate. Their hyperparameters (α, T, the number of epochs) are chosen per
seed on a validation split, by the mean cascade accuracy over the rates.
Differences are in points of test accuracy, paired over seeds, with 95 % t
intervals; a seed draws the 20 classes, the split and the initial weights. Runs
on one core.
"""

import sys
import time

import numpy as np
import tensorflow as tf

from benchmarks.banking77 import banking77
from benchmarks.harness import options, show
from benchmarks.skewed_traffic import task as tasks
from benchmarks.skewed_traffic.comparison import BEST_BASELINE, compared
from benchmarks.skewed_traffic.contenders import contenders
from benchmarks.skewed_traffic.one_run import RATES, TRAINING, run

SEEDS = 5


def measure_seed(data, seed, widths, epochs=None):
    """Trains every method for one seed.

    Args:
        data: `Banking77`.
        seed: int.
        widths: ints.
        epochs: ints, in place of those of `TRAINING`. Defaults to `None`.

    Returns:
        `(task, runs)`: a `Task`, and a dict of width to a dict of
        `(family, setting)` to what `run` returned.
    """
    task = tasks.make_task(data, seed)
    runs = {}
    for width in widths:
        start = time.perf_counter()
        runs[width] = {
            (family, setting): run(
                task, policy, width, epochs or TRAINING[width][1]
            )
            for family, settings in contenders(task.head).items()
            for setting, policy in settings.items()
        }
        seconds = time.perf_counter() - start
        print(f"seed {seed}, {width} units: {seconds:.0f} s", file=sys.stderr)
    return task, runs


def main():
    """Runs the benchmark."""
    arguments = options(__doc__, data=True)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    start = time.perf_counter()
    data = banking77(arguments.data)
    widths = (4,) if arguments.quick else tuple(TRAINING)
    measured = [
        measure_seed(data, seed, widths, (5,) if arguments.quick else None)
        for seed in range(2 if arguments.quick else SEEDS)
    ]
    result = {
        str(width): compared([runs[width] for _, runs in measured])
        for width in widths
    }
    show(
        {
            "teacher": measured[0][0].teacher,
            "teacher_accuracy": float(
                np.mean([_teacher_accuracy(task) for task, _ in measured])
            ),
            "class_specific_over_best_baseline": {
                width: one["against"]["class-specific"][BEST_BASELINE]
                for width, one in result.items()
            },
            "widths": result,
            "rates": RATES,
            "seeds": len(measured),
            "head_classes": tasks.HEAD_CLASSES,
            "head_traffic": tasks.HEAD_TRAFFIC,
            "examples": {
                part: len(getattr(measured[0][0], part).labels)
                for part in ("train", "validation", "test")
            },
            "seconds": time.perf_counter() - start,
        },
        arguments.json,
    )


def _teacher_accuracy(task):
    right = task.test.teacher_logits.argmax(axis=1) == task.test.labels
    return np.average(right, weights=task.mix.weights(task.test.labels))


if __name__ == "__main__":
    main()
