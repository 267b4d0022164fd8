"""Latency benchmark of one part of a bundle, in a process of its own.

    python -m keras_cascade.runtime.bench student BUNDLE INPUTS.npz

prints JSON. Without `INPUTS.npz` inputs are random, within the ranges of the
manifest. The student and the cascade run without TensorFlow, as on the
device; the teacher, which needs it, runs in another process.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable

import numpy as np

from keras_cascade.bundle import Bundle
from keras_cascade.runtime.edge_cascade import EdgeCascade
from keras_cascade.runtime.student_interpreter import open_student
from keras_cascade.runtime.teachers.teacher_at import open_teacher

WARM_UP = 10
RANDOM_ROWS = 64


def latency(
    run: Callable, inputs: dict[str, np.ndarray], batch: int, runs: int
) -> dict:
    """Measures passes over different rows, after a warm-up.

    Args:
        run: function of a dict of inputs.
        inputs: dict of name to array, batch first.
        batch: int, rows in one pass.
        runs: int, timed passes.

    Returns:
        Dict of `batch`, and of `p50` and `p99` in milliseconds.
    """
    rows = len(next(iter(inputs.values())))
    times = []
    for step in range(WARM_UP + runs):
        indices = (np.arange(batch) + step * batch) % rows
        part = {name: values[indices] for name, values in inputs.items()}
        start = time.perf_counter()
        run(part)
        times.append(1000 * (time.perf_counter() - start))
    p50, p99 = np.quantile(times[WARM_UP:], [0.5, 0.99])
    return {"batch": batch, "p50": float(p50), "p99": float(p99)}


def resident_mb() -> float | None:
    """Returns the resident memory of this process in MB, where known."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            words = file.read().split()
    except OSError:
        return None
    return int(words[words.index("VmRSS:") + 1]) / 1024


def random_inputs(bundle: Bundle) -> dict[str, np.ndarray]:
    """Creates random inputs within the ranges of a bundle's manifest.

    Args:
        bundle: `Bundle` of numbers of fixed shapes.

    Raises:
        ValueError: the bundle takes texts, or inputs of any size.
    """
    random = np.random.default_rng(0)
    inputs = {}
    for spec in bundle.inputs:
        shape = spec["shape"][1:]
        if spec["dtype"] == "string" or None in shape:
            raise ValueError(
                "Expected an .npz file of inputs for a bundle of texts, or of "
                f"inputs of any size. Received none, for '{spec['name']}' of "
                f"shape {shape}."
            )
        low, high = spec["range"]
        values = random.uniform(low, high, (RANDOM_ROWS, *shape))
        if np.dtype(spec["dtype"]).kind != "f":
            values = np.rint(values)
        inputs[spec["name"]] = values.astype(spec["dtype"])
    return inputs


def measure(
    part: str,
    bundle: Bundle,
    inputs: dict[str, np.ndarray],
    batches: list[int],
    threads: list[int],
    runs: int,
    url: str | None = None,
) -> dict:
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
    after_import = resident_mb()
    latencies, rate = [], None
    if part == "teacher":
        teacher = open_teacher("local", bundle)
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
        "resident_mb_after_import": after_import,
        "tensorflow_loaded": "tensorflow" in sys.modules,
        "delegation_rate": rate,
    }


def main(import_seconds: float | None = None) -> None:
    """Runs the benchmark of the command line and prints JSON.

    Args:
        import_seconds: float, duration of this module's import, for the
            output. Defaults to `None`.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("student", "teacher", "cascade"))
    parser.add_argument("bundle")
    parser.add_argument(
        "inputs", nargs="?", help=".npz file, one array per input"
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--url")
    a = parser.parse_args()
    bundle = Bundle.load(a.bundle)
    if a.inputs is None:
        inputs = random_inputs(bundle)
    else:
        with np.load(a.inputs, allow_pickle=False) as file:
            inputs = dict(file)
    results = measure(
        a.part, bundle, inputs, a.batches, a.threads, a.runs, a.url
    )
    print(json.dumps({"import_seconds": import_seconds, **results}))


if __name__ == "__main__":
    main()
