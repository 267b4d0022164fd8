"""What quantization does to a student's size, decisions and accuracy.

    python -m benchmarks.export --json [--quick] [--post-training]

A Fashion-MNIST student of about 200,000 parameters is exported in every mode
with the same calibration split and the same objective, and the files are run
over the test split. The modes that train on see the student's own training
data. One teacher is trained and shared; a seed makes a student. Students of
attention and of text, and training in Keras 3: `benchmarks.quantization`.
`--post-training` leaves out the modes that train on, which take nine tenths
of the time.

Over seeds, of each mode against the float32 file of the same student:
`size_over_float32` and `gzipped_over_float32` (gzipped file over float32 file
as it is): the largest. `accuracy_change`: points of cascade accuracy, each
file with the threshold that was fitted on its own scores, mean;
`worst_accuracy_change`: the lowest. `accuracy_change_at_equal_rate`: the same
where both delegate the float32 file's share of the test split. `flips`: share
of the test split that is decided differently; `flips_at_float_threshold`: the
same, had the file kept the float32 threshold.

`qat_over_int8`: what quantization-aware training gains over int8 of the same
student, in points; `accuracy_at` a delegation rate, of the cascade. It also
trains for longer: `qat_over_int8_trained_on` is against int8 of the same
student after as many more epochs in float.
"""

import functools
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

import keras_cascade as kc
from benchmarks.export_findings import GAINS, LARGEST, paired, targets
from benchmarks.export_students import (
    against_float32,
    arrays,
    convnet_student,
    measured,
    trained_cascade,
    trained_teacher,
)
from benchmarks.harness import options, show
from keras_cascade.export.quantization import FLOAT32, POST_TRAINING, TRAINING

#: Higher, and every cascade is as accurate as its teacher.
RATE = 0.1
CALIBRATION = 5_000
#: Training examples, epochs of the teacher, epochs of the student, options of
#: the modes that train on.
FULL, QUICK = (30_000, 8, 10, {}), (4_000, 2, 2, {"epochs": 1})
#: Seeds; and seeds of the modes that train on, but for `qat`.
SEEDS, COSTLY_SEEDS = 5, 3
#: int8 of a student that was trained on in float, as long as `qat` is.
TRAINED_ON = "int8_trained_on"
TRAINED_ON_EPOCHS, TRAINED_ON_RATE, TRAINED_ON_BATCH = 5, 5e-4, 32
MEANS = (*GAINS, "flips", "flips_at_float_threshold")


def one_seed(setting, seed, modes):
    """Trains a student and exports it in every mode; dict of mode to dict."""
    x, y = setting["training"]
    _, _, epochs, optimization = setting["sizes"]
    cascade = trained_cascade(
        setting["teacher"], setting["cache"], x, y, epochs, seed
    )
    cascade.calibrate(setting["calibration"], kc.MaxDelegationRate(RATE))
    threshold = cascade.threshold
    floats, results = None, {}
    for mode in modes:
        data = {"calibration_data": setting["calibration"]}
        if mode in TRAINING:
            data |= {"training_data": (x, y), "optimization": optimization}
        if mode == TRAINED_ON:
            _train_on(cascade, setting, optimization)
        start = time.perf_counter()
        one, out = measured(
            cascade,
            "int8" if mode == TRAINED_ON else mode,
            setting["folder"] / "student.tflite",
            setting["test"],
            setting["teacher_right"],
            **data,
        )
        spent = time.perf_counter() - start
        floats = floats or (one, out)
        results[mode] = {
            **one,
            **against_float32(
                one, out, *floats, threshold, setting["teacher_right"]
            ),
            "seconds": spent,
        }
        print(seed, mode, results[mode], file=sys.stderr, flush=True)
    return results


def _train_on(cascade, setting, optimization):
    """Trains a student on in float, as `FineTuner` does for `qat`."""
    x, y = setting["training"]
    epochs = optimization.get("epochs", TRAINED_ON_EPOCHS)
    decay = keras.optimizers.schedules.CosineDecay(
        TRAINED_ON_RATE, epochs * -(-len(x) // TRAINED_ON_BATCH)
    )
    cascade.compile(optimizer=keras.optimizers.Adam(decay))
    cascade.fit(
        x, y, batch_size=TRAINED_ON_BATCH, epochs=epochs, verbose=0,
        teacher_logits=setting["cache"],
    )  # fmt: skip
    cascade.calibrate(setting["calibration"], kc.MaxDelegationRate(RATE))


def _gain_of_qat(runs):
    return {
        "qat_over_int8": paired(runs, "qat", "int8"),
        "qat_over_int8_trained_on": paired(runs, "qat", TRAINED_ON),
    }


def prepared(sizes, folder):
    """Data and teacher, dict of what every seed shares."""
    splits = kc.datasets.load("fashion_mnist")
    training = arrays(splits.train, sizes[0])
    teacher = trained_teacher(*training, sizes[1])
    x, y = test = arrays(splits.test)
    right = teacher.predict(x, batch_size=500, verbose=0).argmax(axis=1) == y
    return {
        "sizes": sizes,
        "folder": folder,
        "training": training,
        "calibration": arrays(splits.calibration, CALIBRATION),
        "test": test,
        "teacher": teacher,
        "teacher_right": right,
        "cache": kc.cache_teacher_logits(training, teacher, folder / "logits"),
    }


def main():
    """Measures and prints."""
    chosen = options(__doc__, post_training=True)
    seeds = 1 if chosen.quick else SEEDS
    trains_on = not chosen.post_training
    all_modes = (*POST_TRAINING, *(TRAINING if trains_on else ()))
    cheap = (*POST_TRAINING, *(("qat",) if trains_on else ()))
    with tempfile.TemporaryDirectory() as folder:
        setting = prepared(QUICK if chosen.quick else FULL, Path(folder))
        runs = [
            one_seed(
                setting,
                seed,
                (
                    FLOAT32,
                    *(all_modes if seed < COSTLY_SEEDS else cheap),
                    *((TRAINED_ON,) if trains_on else ()),
                ),
            )
            for seed in range(seeds)
        ]

    def over_seeds(name, summary=np.mean):
        return {
            mode: float(
                summary([run[mode][name] for run in runs if mode in run])
            )
            for mode in all_modes
        }

    largest = functools.partial(over_seeds, summary=max)
    result = {
        **{name: largest(name) for name in LARGEST},
        **{name: over_seeds(name) for name in MEANS},
        "worst_accuracy_change": over_seeds("accuracy_change", min),
    }
    show(
        {
            **result,
            "targets": targets(result),
            **(_gain_of_qat(runs) if trains_on else {}),
            "seeds": {
                mode: sum(mode in run for run in runs) for mode in all_modes
            },
            "parameters": convnet_student().count_params(),
            "training_examples": len(setting["training"][1]),
            "test_examples": len(setting["test"][1]),
            "teacher": "one, shared by all seeds",
            "teacher_accuracy": float(setting["teacher_right"].mean()),
            "command": "python -m benchmarks.export --json"
            + (" --quick" if chosen.quick else "")
            + (" --post-training" if chosen.post_training else ""),
            "runs": runs,
        },
        chosen.json,
    )


if __name__ == "__main__":
    main()
