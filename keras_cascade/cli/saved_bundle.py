"""Commands on a saved bundle: verify and bench."""

import dataclasses
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from keras_cascade.bundle import Bundle
from keras_cascade.cli.data_options import DataOptions
from keras_cascade.cli.trainer import batched
from keras_cascade.datasets.labelled_data import LabelledData
from keras_cascade.export.bundle_checks import check_bundle
from keras_cascade.serving import ServerProcess

ROWS = 512
CHILD = """
import time
start = time.perf_counter()
from keras_cascade.runtime import bench
bench.main(time.perf_counter() - start)
"""


def verify(bundle, spec, split, seed, data_options=None):
    """Checks a bundle, from its files alone, on one split of a data set.

    Args:
        bundle: `Bundle`, or the folder of one.
        spec: str, data spec.
        split: `"test"` or `"calibration"`.
        seed: int, of the splits.
        data_options: `DataOptions`. Defaults to `None`: as the manifest says.

    Returns:
        Dict of `passed`, `checks` and `measured`.
    """
    if split not in ("test", "calibration"):
        raise ValueError(
            f"Expected --split test or calibration. Received: '{split}'."
        )
    if not isinstance(bundle, Bundle):
        bundle = Bundle.load(bundle)
    options = data_options or DataOptions()
    data = batched(options.load_for_bundle(spec, seed, bundle))[split]
    examples = LabelledData.from_argument(data)
    checks, measured = check_bundle(
        bundle, examples.checked_batches(len(bundle.classes))
    )
    return {
        "passed": all(check.passed for check in checks),
        "checks": [dataclasses.asdict(check) for check in checks],
        "measured": measured,
    }


def bench(bundle_path, spec, batches, threads, runs, seed, data_options=None):
    """Measures size, latency and memory of a bundle's parts.

    Each part runs in a separate process, so that memory and import time are
    its own; student and cascade without TensorFlow. The cascade's teacher is
    served over HTTP on this machine.

    Args:
        bundle_path: folder of a bundle.
        spec: str, data spec; inputs are taken from its test split.
        batches: list of int, batch sizes.
        threads: list of int, threads of the student's interpreter.
        runs: int, timed passes per part, batch size and thread count.
        seed: int, of the splits.
        data_options: `DataOptions`. Defaults to `None`: as the manifest says.

    Returns:
        JSON-compatible dict.
    """
    bundle = Bundle.load(bundle_path)
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder, "inputs.npz")
        np.savez(inputs, **_inputs(spec, seed, bundle, data_options))

        def measure(part, *options):
            return _run(part, bundle, inputs, batches, threads, runs, *options)

        parts = {"student": measure("student")}
        if bundle.teacher_folder is not None:
            parts["teacher"] = measure("teacher")
            with ServerProcess(bundle.path, Path(folder, "log")) as server:
                parts["cascade"] = measure("cascade", "--url", server.url)
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


def _inputs(spec, seed, bundle, data_options):
    options = data_options or DataOptions()
    test = options.load_for_bundle(spec, seed, bundle).test
    x = LabelledData.from_argument(test.batch(ROWS)).first_rows(ROWS)
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
    return sum(
        file.stat().st_size for file in folder.rglob("*") if file.is_file()
    )
