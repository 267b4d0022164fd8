"""Overhead of the device's runtime over the student that it runs.

    python -m benchmarks.edge --json [--quick]

A convnet of 137,000 parameters (28 x 28 pictures, 10 classes) is exported;
everything else runs in a process without TensorFlow and Keras.

`overhead_us_p50`: one kept row, batch 1: the median of `EdgeCascade.predict`
minus that of a bare LiteRT signature runner on the same file, one call of
each in turn. `import_seconds`: `import keras_cascade.runtime` in new
processes, median. `resident_mb`: of a process that has loaded a bundle and
answered; `resident_mb_after_import` before that. `two_thread_speedup`:
single-row calls per second of two threads over one, median of interleaved
rounds; `two_thread_speedup_of_hashing` is the same for a loop of SHA-256, the
most that this machine gives two threads at this time.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np

import keras_cascade as kc
from benchmarks.harness import options, show

SHAPE, CLASSES = (28, 28, 1), 10
ROWS = 256
CALLS, QUICK_CALLS = 20_000, 1_000
TARGETS = {
    "overhead_us_p50": ("at most", 25),
    "import_seconds": ("at most", 0.5),
    "resident_mb": ("at most", 80),
    "two_thread_speedup": ("at least", 1.6),
}


def export(path, rows):
    """Exports a bundle whose gate keeps about half of the rows.

    The models are not trained: their weights do not change the timings.
    """
    keras.utils.set_random_seed(0)
    cascade = kc.Cascade(
        kc.models.image_teacher(SHAPE, CLASSES, width=8),
        kc.models.image_student(SHAPE, CLASSES, width=64),
    )
    cascade.compile(optimizer="adam")
    labels = np.arange(len(rows)) % CLASSES
    cascade.calibrate((rows, labels), kc.MaxDelegationRate(0.5))
    cascade.export(path)
    return cascade.student.count_params()


def main():
    """Runs the benchmark."""
    chosen = options(__doc__)
    rng = np.random.default_rng(0)
    rows = rng.random((ROWS, *SHAPE), dtype="float32")
    with tempfile.TemporaryDirectory() as folder:
        bundle, file = Path(folder, "bundle"), Path(folder, "rows.npy")
        parameters = export(bundle, rows)
        np.save(file, rows)
        run = subprocess.run(
            [
                sys.executable, "-m", "benchmarks.edge_device", str(bundle),
                str(file), str(QUICK_CALLS if chosen.quick else CALLS),
            ],
            stdout=subprocess.PIPE,
            check=True,
        )  # fmt: skip
    results = json.loads(run.stdout)
    show(
        {
            **results,
            "targets": {
                name: {
                    how: value,
                    "met": results[name] <= value
                    if how == "at most"
                    else results[name] >= value,
                }
                for name, (how, value) in TARGETS.items()
            },
            "student_parameters": parameters,
            "command": "python -m benchmarks.edge --json"
            + (" --quick" if chosen.quick else ""),
        },
        chosen.json,
    )


if __name__ == "__main__":
    main()
