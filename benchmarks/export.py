"""What quantization does to a bundle's size, decisions and accuracy.

    python -m benchmarks.export --json [--quick]

A Fashion-MNIST student of about 200,000 parameters is exported in every mode
with the same calibration split and the same objective, and the files are run
over the test split. `size_over_float32`: of the student's file, gate included.
`accuracy_change`: points of cascade accuracy against the float32 file, each
with the threshold that was fitted on its own scores, mean over seeds;
`worst_accuracy_change` is the lowest. `flips`: share of the test split that
the file and the float32 file decide differently; `flips_at_float_threshold`:
the same, had the file kept the float32 threshold.
"""

import gzip
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
from keras import layers

import keras_cascade as kc
from benchmarks.harness import options, show
from keras_cascade.export.quantization import FLOAT32, POST_TRAINING
from keras_cascade.runtime import StudentInterpreter

SEEDS = 3
RATE = 0.2
CALIBRATION = 5_000
#: (training examples, epochs of the teacher, epochs of the student)
FULL, QUICK = (40_000, 6, 6), (4_000, 2, 2)
BATCH = 250
MEANS = ("accuracy_change", "flips", "flips_at_float_threshold")


def convnet_student():
    """Two strided convolutions and a hidden layer: 195,058 parameters."""
    inputs = keras.Input((28, 28, 1))
    x = inputs
    for channels in (32, 64):
        x = layers.Conv2D(
            channels, 3, strides=2, padding="same", activation="relu"
        )(x)
    x = layers.Dense(56, activation="relu")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(10)(x))


def arrays(part):
    """`(x, y)` of one split."""
    batches = list(part.batch(4096).as_numpy_iterator())
    return tuple(
        np.concatenate(column) for column in zip(*batches, strict=True)
    )


def trained(x, y, epochs, seed):
    """A cascade whose models saw `x`."""
    keras.utils.set_random_seed(seed)
    _, teacher_epochs, student_epochs = epochs
    teacher = kc.models.image_teacher((28, 28, 1), 10, 16)
    teacher.compile(
        optimizer=keras.optimizers.Adam(2e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    teacher.fit(x, y, batch_size=64, epochs=teacher_epochs, verbose=0)
    cascade = kc.Cascade(teacher, convnet_student())
    cascade.compile(optimizer=keras.optimizers.Adam(1e-3))
    cascade.fit(x, y, batch_size=64, epochs=student_epochs, verbose=0)
    return cascade


def answers(file, x):
    """What a student's file answers, batch by batch."""
    student = StudentInterpreter(file)
    parts = [
        student.run({"input": x[start : start + BATCH]})
        for start in range(0, len(x), BATCH)
    ]
    return {
        name: np.concatenate([part[name] for part in parts])
        for name in parts[0]
    }


def measured(cascade, calibration, test, folder):
    """Exports in every mode; returns dict of mode to numbers."""
    cascade.calibrate(calibration, kc.MaxDelegationRate(RATE), BATCH)
    x, y = test
    teacher = cascade.teacher.predict(x, verbose=0).argmax(axis=1) == y
    found, floats = {}, None
    for mode in (FLOAT32, *POST_TRAINING):
        start = time.perf_counter()
        bundle = cascade.export(folder / mode, quantization=mode)
        seconds = time.perf_counter() - start
        out = answers(bundle.student_file, x)
        right = out["probabilities"].argmax(axis=1) == y
        content = bundle.student_file.read_bytes()
        one = {
            "bytes": len(content),
            "gzipped_bytes": len(gzip.compress(content)),
            "delegation_rate": float(out["delegate"].mean()),
            "student_accuracy": float(right.mean()),
            "accuracy": float(np.where(out["delegate"], teacher, right).mean()),
            "seconds": seconds,
        }
        floats = floats or {**one, **out}
        threshold = np.float32(cascade.threshold)
        one["accuracy_change"] = 100 * (one["accuracy"] - floats["accuracy"])
        one["flips"] = float((out["delegate"] != floats["delegate"]).mean())
        one["flips_at_float_threshold"] = float(
            ((out["score"] < threshold) != floats["delegate"]).mean()
        )
        one["size_over_float32"] = one["bytes"] / floats["bytes"]
        one["gzipped_over_float32"] = one["gzipped_bytes"] / floats["bytes"]
        found[mode] = one
    return found


def main():
    """Measures and prints."""
    chosen = options(__doc__)
    epochs = QUICK if chosen.quick else FULL
    splits = kc.datasets.load("fashion_mnist")
    x, y = arrays(splits.train)
    calibration = tuple(a[:CALIBRATION] for a in arrays(splits.calibration))
    test = arrays(splits.test)
    runs = []
    for seed in range(1 if chosen.quick else SEEDS):
        cascade = trained(x[: epochs[0]], y[: epochs[0]], epochs, seed)
        with tempfile.TemporaryDirectory() as folder:
            runs.append(measured(cascade, calibration, test, Path(folder)))

    def over_seeds(name, summary=np.mean):
        return {
            mode: float(summary([run[mode][name] for run in runs]))
            for mode in POST_TRAINING
        }

    show(
        {
            "size_over_float32": over_seeds("size_over_float32", max),
            "gzipped_over_float32": over_seeds("gzipped_over_float32", max),
            **{name: over_seeds(name) for name in MEANS},
            "worst_accuracy_change": over_seeds("accuracy_change", min),
            "parameters": convnet_student().count_params(),
            "test_examples": len(test[1]),
            "runs": runs,
        },
        chosen.json,
    )


if __name__ == "__main__":
    main()
