"""`keras-cascade bench`: what a bundle takes on this machine."""

import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from keras_cascade import datasets
from keras_cascade.bundle import Bundle
from keras_cascade.datasets.batches import iterate_batches
from keras_cascade.serving import ServerProcess

ROWS = 512
CHILD = """
import time
start = time.perf_counter()
from keras_cascade.runtime import bench
bench.main(time.perf_counter() - start)
"""


def bench(bundle_path, spec, batches, threads, runs, seed):
    """Measures size, latency and memory of a bundle's parts.

    Each part runs in a process of its own; the student and the cascade
    without TensorFlow. The cascade asks a teacher that is served over HTTP on
    this machine.

    Args:
        bundle_path: folder of a bundle.
        spec: str, data spec; inputs are taken from its test split.
        batches: list of int, batch sizes.
        threads: list of int, threads of the student's interpreter.
        runs: int, timed passes each.
        seed: int, of the splits.

    Returns:
        JSON-compatible dict.
    """
    bundle = Bundle.load(bundle_path)
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder, "inputs.npz")
        np.savez(inputs, **_inputs(spec, seed, bundle))

        def measured(part, *options):
            return _run(part, bundle, inputs, batches, threads, runs, *options)

        parts = {"student": measured("student")}
        if bundle.teacher_folder is not None:
            parts["teacher"] = measured("teacher")
            with ServerProcess(bundle.path, Path(folder, "log")) as server:
                parts["cascade"] = measured("cascade", "--url", server.url)
    return {
        "bundle": str(bundle.path),
        "student_bytes": bundle.manifest["student"]["bytes"],
        "teacher_bytes": _bytes(bundle.teacher_folder),
        **parts,
        "machine": {
            "cores": os.cpu_count(),
            "processor": platform.machine(),
            "python": platform.python_version(),
        },
    }


def _inputs(spec, seed, bundle):
    test = datasets.load(spec, seed).test
    x, _, _ = next(iterate_batches(test.batch(ROWS)))
    if isinstance(x, dict):
        return x
    return {bundle.inputs[0]["name"]: x}


def _run(part, bundle, inputs, batches, threads, runs, *options):
    done = subprocess.run(
        [
            sys.executable, "-c", CHILD, part, str(bundle.path), str(inputs),
            "--batches", *map(str, batches),
            "--threads", *map(str, threads),
            "--runs", str(runs), *options,
        ],
        capture_output=True,
        text=True,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(
            f"Measuring the {part} failed: {done.stderr.strip()[-500:]}"
        )
    return json.loads(done.stdout)


def _bytes(folder):
    if folder is None:
        return None
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
