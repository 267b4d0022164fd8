"""The students of `benchmarks.export`: trained, exported, measured."""

import gzip

import keras
import numpy as np
from keras import layers

import keras_cascade as kc
from keras_cascade.runtime import StudentInterpreter

BATCH = 250
TRAINING_BATCH = 64
#: Delegation rates at which every file is compared.
RATES = (0.05, 0.1, 0.2, 0.3)


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


def arrays(part, most=None):
    """`(x, y)` of the first examples of one split."""
    part = part if most is None else part.take(most)
    batches = list(part.batch(4096).as_numpy_iterator())
    return tuple(
        np.concatenate(column) for column in zip(*batches, strict=True)
    )


def trained_teacher(x, y, epochs):
    """One teacher, which all seeds share."""
    keras.utils.set_random_seed(0)
    teacher = kc.models.image_teacher((28, 28, 1), 10, 16)
    steps = epochs * -(-len(x) // TRAINING_BATCH)
    teacher.compile(
        optimizer=keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(2e-3, steps)
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    teacher.fit(x, y, batch_size=TRAINING_BATCH, epochs=epochs, verbose=0)
    return teacher


def trained_cascade(teacher, cache, x, y, epochs, seed):
    """A cascade whose student has learned from the teacher's logits."""
    keras.utils.set_random_seed(seed)
    cascade = kc.Cascade(teacher, convnet_student())
    cascade.compile(optimizer=keras.optimizers.Adam(1e-3))
    cascade.fit(
        x, y, batch_size=TRAINING_BATCH, epochs=epochs, verbose=0,
        teacher_logits=cache,
    )  # fmt: skip
    return cascade


def measured(cascade, mode, file, test, teacher_right, **options):
    """Exports a student in one mode and runs its file over the test split.

    Args:
        cascade: calibrated `Cascade`.
        mode: str, a quantization.
        file: path to write.
        test: `(x, y)`.
        teacher_right: bool array, whether the teacher is right on `x`.
        **options: of `cascade.export`.

    Returns:
        `(numbers, outputs)`: a JSON-compatible dict, and the file's `score`,
        `delegate` and `right`, an array each.
    """
    cascade.export(file, format="litert", quantization=mode, **options)
    x, y = test
    out = _answers(file, x)
    out["right"] = out.pop("probabilities").argmax(axis=1) == y
    right = np.where(out["delegate"], teacher_right, out["right"])
    content = file.read_bytes()
    return {
        "bytes": len(content),
        "gzipped_bytes": len(gzip.compress(content)),
        "delegation_rate": float(out["delegate"].mean()),
        "student_accuracy": float(out["right"].mean()),
        "accuracy": float(right.mean()),
        "accuracy_at": {
            str(rate): accuracy_at(
                rate, out["score"], out["right"], teacher_right
            )
            for rate in RATES
        },
    }, out


def against_float32(one, out, floats, float_out, threshold, teacher_right):
    """What changed with the mode, every accuracy in points.

    Args:
        one, out: of `measured`.
        floats, float_out: of `measured`, for float32.
        threshold: float, of the float32 file.
        teacher_right: bool array.

    Returns:
        Dict.
    """
    at_its_rate = accuracy_at(
        floats["delegation_rate"], out["score"], out["right"], teacher_right
    )
    kept_threshold = out["score"] < np.float32(threshold)
    return {
        "size_over_float32": one["bytes"] / floats["bytes"],
        "gzipped_over_float32": one["gzipped_bytes"] / floats["bytes"],
        "student_accuracy_change": 100
        * (one["student_accuracy"] - floats["student_accuracy"]),
        "accuracy_change": 100 * (one["accuracy"] - floats["accuracy"]),
        "accuracy_change_at_equal_rate": 100
        * (at_its_rate - floats["accuracy"]),
        "flips": float((out["delegate"] != float_out["delegate"]).mean()),
        "flips_at_float_threshold": float(
            (kept_threshold != float_out["delegate"]).mean()
        ),
    }


def accuracy_at(rate, score, student_right, teacher_right):
    """Cascade accuracy at exactly a rate; scores that tie go in any order.

    Args:
        rate: float in [0, 1].
        score: float array `(examples,)`.
        student_right: bool array `(examples,)`.
        teacher_right: bool array `(examples,)`.

    Returns:
        Float: between two thresholds the mean over the order of the ties,
        which is the line between their accuracies.
    """
    curve = kc.evaluation.deferral_curve(score, student_right, teacher_right)
    return float(np.interp(rate, curve.delegation_rate, curve.accuracy))


def _answers(file, x):
    student = StudentInterpreter(file)
    parts = [
        student.run({"input": x[start : start + BATCH]})
        for start in range(0, len(x), BATCH)
    ]
    return {
        name: np.concatenate([part[name] for part in parts])
        for name in parts[0]
    }
