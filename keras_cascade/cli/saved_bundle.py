"""Commands on a saved bundle: verify and bench."""

import contextlib
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
from keras_cascade.bundle.manifest import SIGNATURE
from keras_cascade.cli.data_options import DataOptions
from keras_cascade.cli.task_data import task_examples
from keras_cascade.cli.trainer import batched
from keras_cascade.datasets.batches import take_rows
from keras_cascade.datasets.labelled_data import LabelledData
from keras_cascade.export.bundle_checks import Check, check_bundle
from keras_cascade.export.bundle_task import label_check
from keras_cascade.export.measured_runtimes import open_measured_runtime
from keras_cascade.export.runtime_checks import (
    check_refit,
    compare_runtime,
    refit,
)
from keras_cascade.serving import ServerProcess

ROWS = 512
CHILD = """
import time
start = time.perf_counter()
from keras_cascade.runtime import bench
bench.main(time.perf_counter() - start)
"""


def verify(
    bundle,
    spec,
    split,
    seed,
    data_options=None,
    runtime=None,
    accelerator="cpu",
    refit_as=None,
):
    """Checks a bundle, from its files alone, on one split of a data set.

    Args:
        bundle: `Bundle`, or the folder of one.
        spec: str, data spec; of a bundle with a task `npz:PATH`, all of whose
            rows are used.
        split: `"test"` or `"calibration"`.
        seed: int, of the splits.
        data_options: `DataOptions`. Defaults to `None`: as the manifest says.
        runtime: str, such as `"tflite-micro"`, whose decisions are compared
            with the interpreter's. Defaults to `None`.
        accelerator: str, of `"compiled"`. Defaults to `"cpu"`.
        refit_as: str, name of an operating point to fit on the runtime's
            scores and write into the bundle. Defaults to `None`.

    Returns:
        Dict of `passed`, `checks` and `measured`; with `runtime` also of
        `runtime`, and with `refit_as` of `operating_point` and
        `manifest_sha256`, which has changed.
    """
    if not isinstance(bundle, Bundle):
        bundle = Bundle.load(bundle)
    with contextlib.ExitStack() as opened:
        if runtime is not None:  # first: it may not be installed
            runtime = opened.enter_context(
                contextlib.closing(
                    open_measured_runtime(bundle, runtime, accelerator)
                )
            )
        if refit_as is not None:
            check_refit(bundle, runtime, refit_as)
        examples = _examples(bundle, spec, split, seed, data_options)

        def batches():
            return examples.checked_batches(label_check(bundle))

        checks, measured = check_bundle(bundle, batches())
        found = {"measured": measured}
        if runtime is not None:
            compared, found["runtime"], results = compare_runtime(
                bundle, runtime, batches(), refit_as is not None
            )
            if refit_as is not None:
                # Its own point decides then; flips of the default are why.
                compared[0] = dataclasses.replace(compared[0], passed=True)
            checks += compared
        if refit_as is not None:
            check, more = _refit(
                bundle, runtime, results, refit_as, seed, checks
            )
            checks.append(check)
            found |= more
    return {
        "passed": all(check.passed for check in checks),
        "checks": [dataclasses.asdict(check) for check in checks],
        **found,
    }


def _refit(bundle, runtime, results, name, seed, checks):
    """`(Check, dict)` of an operating point that is written, or is not."""
    if not all(check.passed for check in checks):
        return Check(
            f"refit {name}", False, "not written, as other checks failed"
        ), {}
    signed = (bundle.path / SIGNATURE).exists()
    written = refit(bundle, runtime, results, name, seed)
    point = written.operating_point(name)
    threshold = f"{point['threshold']:.6g}"
    if point.get("class_thresholds"):
        threshold = "the threshold of the predicted class"
    return Check(
        f"refit {name}",
        True,
        f"score < {threshold} in {runtime.title} delegates "
        f"{point['delegation_rate']:.2%}, accuracy {point['accuracy']:.4f}; "
        "the manifest is another now"
        + ("; its signature was removed: sign it again" if signed else ""),
    ), {
        "operating_point": point,
        "manifest_sha256": written.manifest_sha256,
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
        else:
            parts["no_teacher"] = bundle.lacks_teacher()
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


def _examples(bundle, spec, split, seed, data_options):
    """`LabelledData` of one split of a data set."""
    if split not in ("test", "calibration"):
        raise ValueError(
            f"Expected --split test or calibration. Received: '{split}'."
        )
    if not bundle.answer_form.one_class:
        return task_examples(bundle, spec)
    options = data_options or DataOptions()
    return LabelledData.from_argument(
        batched(options.load_for_bundle(spec, seed, bundle))[split]
    )


def _inputs(spec, seed, bundle, data_options):
    if not bundle.answer_form.one_class:
        x = task_examples(bundle, spec, labelled=False).x
        x = take_rows(x, slice(0, ROWS))
        return x if isinstance(x, dict) else {bundle.inputs[0]["name"]: x}
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
