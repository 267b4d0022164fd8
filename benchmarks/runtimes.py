"""Decisions and latency of a student in `CompiledModel` and TFLite Micro.

    python -m benchmarks.runtimes --json [--quick]

A convnet of 8 x 8 digits is trained for a few epochs and exported in float32
and int8; rows are the test digits with noise. Per file, a process without
TensorFlow runs 10,000 single rows and batches of up to 256 in the interpreter
and in `CompiledModel`: `decision_flips` are rows that one keeps and the other
delegates, and `exit_code` is that of the process: LiteRT 2.3 ends it after a
resize. `kept_row_us_p50`: `EdgeCascade.predict` of one kept row, in turn.
`tflite_micro`: 1,000 of the rows, where the package is installed. "Python" is
the same file in `EdgeCascade`'s interpreter, at the same threshold.

`fashion_mnist`: the test images in TFLite Micro, of the reference bundle as it
is (`float_inputs`), and with its input made int8 as `io_type="int8"` does
(`int8_inputs`): the same weights and the same threshold.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np

import keras_cascade as kc
from benchmarks.harness import options, show
from keras_cascade.bundle import Bundle
from keras_cascade.bundle.manifest import MANIFEST, write_manifest
from keras_cascade.errors import ExportError
from keras_cascade.export.integer_file import integer_spec, with_int8_inputs
from keras_cascade.export.manifest_content import described
from keras_cascade.export.measured_runtimes import open_measured_runtime
from keras_cascade.export.runtime_checks import compare_runtime

SHAPE, CLASSES = (8, 8, 1), 10
ROWS, QUICK_ROWS = 10_000, 500
MICRO_ROWS, QUICK_MICRO_ROWS = 1_000, 100
FASHION_ROWS, QUICK_FASHION_ROWS = 10_000, 200
REFERENCE = Path(__file__).parent.parent / "saved_models" / "fashion_mnist"
BATCH = 100
#: Standard deviation of the noise, where 1 is white.
NOISE = 0.05
FILES = {
    "float32": {},
    "int8": {"quantization": "int8"},
    "int8_inputs": {"quantization": "int8", "io_type": "int8"},
}


def digits():
    """Returns images of digits from 0 to 1, and their labels."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    images = (data.images / 16).astype("float32")[..., None]
    return images[order], data.target[order]


def trained_cascade(epochs):
    """Returns a calibrated cascade of digits, and its test images."""
    keras.utils.set_random_seed(0)
    x, y = digits()
    layers = keras.layers

    def model(width):
        return keras.Sequential(
            [
                keras.Input(SHAPE),
                layers.Conv2D(width, 3, padding="same", activation="relu"),
                layers.MaxPooling2D(),
                layers.Conv2D(width, 3, padding="same", activation="relu"),
                layers.Flatten(),
                layers.Dense(CLASSES),
            ]
        )

    teacher = model(32)
    teacher.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    teacher.fit(x[:800], y[:800], epochs=2 * epochs, verbose=0)
    cascade = kc.Cascade(teacher, model(4))
    cascade.compile("adam")
    cascade.fit(x[:800], y[:800], epochs=epochs, verbose=0)
    cascade.calibrate((x[800:1300], y[800:1300]), kc.MaxDelegationRate(0.3))
    return cascade, x[1300:]


def noisy(images, count):
    """Returns so many images, repeated and with noise."""
    rng = np.random.default_rng(1)
    rows = images[np.arange(count) % len(images)]
    rows = rows + NOISE * rng.standard_normal(rows.shape, dtype="float32")
    return rows.clip(0, 1).astype("float32")


def on_device(bundle, rows):
    """Runs both runtimes in a process of their own.

    Returns:
        Dict with its `exit_code`, and what it printed.
    """
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.runtimes_device", bundle, rows],
        stdout=subprocess.PIPE,
        text=True,
    )
    printed = json.loads(run.stdout) if run.returncode == 0 else {}
    return {"exit_code": run.returncode, **printed}


def in_tflite_micro(path, rows):
    """Compares decisions with TFLite Micro; says why where it cannot."""
    bundle = Bundle.load(path)
    try:
        runtime = open_measured_runtime(bundle, "tflite-micro")
    except ExportError as error:
        return {"not_run": str(error)}
    unused = np.zeros(len(rows), int)
    batches = [
        (rows[start : start + BATCH], unused[start : start + BATCH], None)
        for start in range(0, len(rows), BATCH)
    ]
    return compare_runtime(bundle, runtime, batches)[1]


def with_int8_input(folder):
    """Returns a copy of the reference bundle whose student takes int8."""
    reference = Bundle.load(REFERENCE)
    shutil.copytree(REFERENCE, folder)
    file = folder / reference.manifest["student"]["file"]
    content, inputs = with_int8_inputs(file.read_bytes())
    file.write_bytes(content)
    student = {**reference.manifest["student"], **described(file)}
    student["input"] = [
        integer_spec(spec, inputs[spec["name"]]) for spec in reference.inputs
    ]
    write_manifest(
        {**reference.manifest, "student": student}, folder / MANIFEST
    )
    return folder


def fashion_mnist(folder, count):
    """Measures the reference student in TFLite Micro."""
    test = kc.datasets.load("fashion_mnist", 0).test
    batches = test.batch(count).as_numpy_iterator()
    rows = next(iter(batches))[0]
    return {
        "float_inputs": in_tflite_micro(REFERENCE, rows),
        "int8_inputs": in_tflite_micro(with_int8_input(folder), rows),
    }


def main():
    """Runs the benchmark."""
    chosen = options(__doc__)
    quick = chosen.quick
    cascade, images = trained_cascade(epochs=3 if quick else 15)
    rows = noisy(images, QUICK_ROWS if quick else ROWS)
    micro = rows[: QUICK_MICRO_ROWS if quick else MICRO_ROWS]
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "rows.npy")
        np.save(file, rows)
        for name, stored in FILES.items():
            path = Path(folder, name)
            cascade.export(path, verbose=False, **stored)
            results[name] = {
                "student_bytes": (path / "student.tflite").stat().st_size,
                "compiled": on_device(path, file),
                "tflite_micro": in_tflite_micro(path, micro),
            }
        results["fashion_mnist"] = fashion_mnist(
            Path(folder, "fashion_mnist"),
            QUICK_FASHION_ROWS if quick else FASHION_ROWS,
        )
    show(
        {
            **results,
            "command": "python -m benchmarks.runtimes --json"
            + (" --quick" if quick else ""),
        },
        chosen.json,
    )


if __name__ == "__main__":
    main()
