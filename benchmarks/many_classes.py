"""Training and scoring with 21,843 classes from a cache of the top 32 logits.

    python -m benchmarks.many_classes --json [--quick]

`epoch_over_student` compares `Cascade.fit` of two epochs from the cache with
`keras.Model.fit` of the same student alone, on the same examples, in turn:
with all that `fit` does before its first step, such as hashing the examples.
`resident_mb` is the peak of resident memory above that of a process that has
imported TensorFlow, built both models and run each of them once: with the
examples, the optimizer and what tracing and compilation take. Each step runs
in a process of its own.
"""

import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np

import keras_cascade as kc
from benchmarks.harness import interleaved, medians, options, show

FEATURES = 64
TOP_K = 32
BATCH = 256
#: Epochs of one `fit` that is timed.
EPOCHS = 2
STEPS = ("caching", "fit", "judge", "calibrate", "fit_gate")


def build_models(classes):
    """Builds a teacher of some million weights and a small student."""
    keras.utils.set_random_seed(0)
    teacher = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Dense(256, activation="relu"),
            keras.layers.Dense(classes),
        ]
    )
    # Logits of a spread such as trained models have.
    kernel, bias = teacher.layers[-1].get_weights()
    teacher.layers[-1].set_weights([8.0 * kernel, bias])
    return teacher, build_student(classes)


def build_student(classes):
    """Builds the student: 64 units and one logit per class."""
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(classes),
        ]
    )


def examples(rows, classes):
    """Normal features, and labels that `labels_from` replaces in part."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, FEATURES)).astype("float32")
    return x, rng.integers(0, classes, rows).astype("int32")


def labels_from(cache, x, y):
    """The teacher's own class for four examples of five."""
    for start in range(0, len(x), 4096):
        part = slice(start, start + 4096)
        answers, _ = cache.answers(x[part])
        of_teacher = np.arange(start, start + len(answers)) % 5 > 0
        y[part] = np.where(of_teacher, answers, y[part])
    return y


def tell(text):
    """Prints a line of progress."""
    print(f"many_classes: {text}", file=sys.stderr, flush=True)


def resident_mb(field):
    """Reads a size of this process in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def run_step(step, rows, classes, folder):
    """Runs one step in this process and prints its memory as JSON."""
    teacher, student = build_models(classes)
    for model in (teacher, student):
        model(np.zeros((1, FEATURES), "float32"))
    before = resident_mb("VmRSS")
    start = time.perf_counter()
    x, y = examples(rows, classes)
    if step == "caching":
        cache = kc.cache_teacher_logits(
            x, teacher, folder / "cache", top_k=TOP_K, batch_size=BATCH
        )
        np.save(folder / "labels.npy", labels_from(cache, x, y))
    else:
        y = np.load(folder / "labels.npy")
        cache = kc.TeacherLogitsCache(folder / "cache")
        gate = "learned" if step == "fit_gate" else "margin"
        cascade = kc.Cascade(teacher, student, gate=gate)
        cascade.compile(optimizer="adam")
        if step == "fit":
            cascade.fit(x, y, batch_size=BATCH, verbose=0, teacher_logits=cache)
        elif step == "judge":
            cascade.judge((x, y), batch_size=BATCH, teacher_logits=cache)
        elif step == "calibrate":
            cascade.calibrate(
                (x, y),
                kc.MaxDelegationRate(0.3),
                batch_size=BATCH,
                teacher_logits=cache,
            )
        else:
            cascade.fit_gate((x, y), batch_size=BATCH, teacher_logits=cache)
    print(
        json.dumps(
            {
                "resident_mb": resident_mb("VmHWM") - before,
                "seconds": time.perf_counter() - start,
                "models_mb": before,
            }
        )
    )


def in_child(step, rows, classes, folder):
    """Runs a step in a process of its own; returns what it printed."""
    tell(f"{step}, {rows:,} examples of {classes:,} classes")
    process = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.many_classes",
            *("--step", step, str(rows), str(classes), str(folder)),
        ],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    result = json.loads(process.stdout.splitlines()[-1])
    tell(f"{step}: {result['resident_mb']:.0f} MB, {result['seconds']:.0f} s")
    return result


def run_steps(rows, classes, folder, at_a_time):
    """Runs every step, caching first; returns a dict of their results."""

    def run(step):
        return in_child(step, rows, classes, folder)

    first, *others = STEPS
    results = [run(first)]
    with ThreadPoolExecutor(at_a_time) as threads:
        results += threads.map(run, others)
    return dict(zip(STEPS, results, strict=True))


def measure_epochs(rows, classes, rounds, folder):
    """Times an epoch from the cache and one of the student alone, in turn."""
    teacher, student = build_models(classes)
    plain = build_student(classes)
    plain.compile(
        optimizer="adam",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    cascade = kc.Cascade(teacher, student)
    cascade.compile(optimizer="adam")
    x, _ = examples(rows, classes)
    y = np.load(folder / "labels.npy")
    cache = kc.TeacherLogitsCache(folder / "cache", teacher)
    rests = {"batch_size": BATCH, "verbose": 0}
    cached = {**rests, "teacher_logits": cache, "spot_check": False}
    few = slice(0, 4 * BATCH + rows % BATCH)  # both sizes of batches
    plain.fit(x[few], y[few], **rests)
    cascade.fit(x[few], y[few], **cached)
    tell(f"epochs, {rounds} rounds")
    times = interleaved(
        {
            "student": lambda: plain.fit(x, y, epochs=EPOCHS, **rests),
            "cascade": lambda: cascade.fit(x, y, epochs=EPOCHS, **cached),
        },
        rounds,
    )
    tell(f"{EPOCHS} epochs in seconds: {times}")
    return {name: value / EPOCHS for name, value in medians(times).items()}


def main():
    """Runs the benchmark."""
    if sys.argv[1:2] == ["--step"]:
        step, rows, classes, folder = sys.argv[2:]
        run_step(step, int(rows), int(classes), Path(folder))
        return
    chosen = options(__doc__)
    rows, classes, rounds = 200_000, 21_843, 3
    if chosen.quick:
        rows, classes, rounds = 2_048, 5_000, 1
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        steps = run_steps(rows, classes, folder, 4 if chosen.quick else 1)
        epoch = measure_epochs(rows, classes, rounds, folder)
    result = {
        "epoch_over_student": epoch["cascade"] / epoch["student"],
        "resident_mb": {
            step: one["resident_mb"] for step, one in steps.items()
        },
        "seconds": {
            **{step: one["seconds"] for step, one in steps.items()},
            **{f"epoch_{name}": value for name, value in epoch.items()},
        },
        "models_mb": steps["fit"]["models_mb"],
        "examples": rows,
        "classes": classes,
        "top_k": TOP_K,
        "batch_size": BATCH,
        "rounds": rounds,
        "epochs": EPOCHS,
    }
    show(result, chosen.json)


if __name__ == "__main__":
    main()
