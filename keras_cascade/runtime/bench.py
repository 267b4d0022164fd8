"""Times one part of a bundle in a process of its own.

    python -m keras_cascade.runtime.bench student BUNDLE INPUTS.npz

prints JSON. The student and the cascade run without TensorFlow, as on the
device; the teacher, which needs it, runs in another process.
"""

import argparse
import json
import sys
import time

import numpy as np

from keras_cascade.bundle import Bundle
from keras_cascade.runtime.edge_cascade import EdgeCascade
from keras_cascade.runtime.teachers.saved_model_teacher import SavedModelTeacher
from keras_cascade.runtime.teachers.text_teacher import as_text_teacher
from keras_cascade.runtime.text_student import open_student

WARM_UP = 10


def latency(run, inputs, batch, runs):
    """Milliseconds of passes over different rows, after a warm-up.

    Args:
        run: function of a dict of inputs.
        inputs: dict of name to array, batch first.
        batch: int, rows in one pass.
        runs: int, timed passes.

    Returns:
        Dict of `batch`, `p50` and `p99`.
    """
    rows = len(next(iter(inputs.values())))
    times = []
    for number in range(WARM_UP + runs):
        picked = (np.arange(batch) + number * batch) % rows
        part = {name: values[picked] for name, values in inputs.items()}
        start = time.perf_counter()
        run(part)
        times.append(1000 * (time.perf_counter() - start))
    p50, p99 = np.quantile(times[WARM_UP:], [0.5, 0.99])
    return {"batch": batch, "p50": float(p50), "p99": float(p99)}


def resident_mb():
    """Resident memory of this process in MB, or `None` where unknown."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            words = file.read().split()
    except OSError:
        return None
    return int(words[words.index("VmRSS:") + 1]) / 1024


def measure(part, bundle, inputs, batches, threads, runs, url=None):
    """Measures one part of a bundle.

    Args:
        part: `"student"`, `"teacher"` or `"cascade"`.
        bundle: `Bundle`.
        inputs: dict of name to array, batch first.
        batches: list of int, batch sizes.
        threads: list of int, threads of an interpreter (not for the teacher).
        runs: int, timed passes each.
        url: URL of the served teacher, for the cascade. Defaults to `None`.

    Returns:
        JSON-compatible dict.
    """
    imported = resident_mb()
    latencies, rate = [], None
    if part == "teacher":
        teacher = as_text_teacher(
            SavedModelTeacher(bundle.teacher_folder), bundle
        )
        latencies = [latency(teacher.logits, inputs, b, runs) for b in batches]
    for count in threads if part != "teacher" else ():
        if part == "student":
            run = open_student(bundle, count).run
        else:
            cascade = EdgeCascade.load(
                bundle.path, url, on_failure="raise", num_threads=count
            )
            run = cascade.predict
            rate = run(inputs).delegation_rate
        latencies += [
            {"threads": count, **latency(run, inputs, b, runs)} for b in batches
        ]
    return {
        "latency_ms": latencies,
        "resident_mb": resident_mb(),
        "resident_mb_after_import": imported,
        "tensorflow_loaded": "tensorflow" in sys.modules,
        "delegation_rate": rate,
    }


def main(import_seconds=None):
    """Reads the arguments, measures, prints.

    Args:
        import_seconds: float, how long importing this module took, for the
            record. Defaults to `None`.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("student", "teacher", "cascade"))
    parser.add_argument("bundle")
    parser.add_argument("inputs", help=".npz file, one array an input")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--url")
    a = parser.parse_args()
    with np.load(a.inputs, allow_pickle=False) as file:
        inputs = dict(file)
    bundle = Bundle.load(a.bundle)
    found = measure(a.part, bundle, inputs, a.batches, a.threads, a.runs, a.url)
    print(json.dumps({"import_seconds": import_seconds, **found}))


if __name__ == "__main__":
    main()
