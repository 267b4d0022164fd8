"""How the command line trains the reference models."""

import keras

from keras_cascade import Cascade
from keras_cascade.cli.progress import fit_with_progress
from keras_cascade.datasets.labelled_data import (
    ExampleObserver,
    LabelledData,
    original_error,
)

TEACHER_LEARNING_RATE = 2e-3
STUDENT_LEARNING_RATE = 5e-3
BATCH_SIZE = 128
SHUFFLE_BUFFER = 10_000


def batched(splits, batch_size=BATCH_SIZE):
    """Dict of the three splits in batches; training data shuffled, cached."""
    return {
        "train": splits.train.cache()
        .shuffle(SHUFFLE_BUFFER)
        .batch(batch_size)
        .prefetch(2),
        "calibration": splits.calibration.batch(batch_size).prefetch(2),
        "test": splits.test.batch(batch_size).prefetch(2),
    }


def train_teacher(teacher, splits, data, console, epochs):
    """Trains a reference teacher on the labels. Returns it."""
    teacher.compile(
        optimizer=_optimizer(TEACHER_LEARNING_RATE, data["train"], epochs),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    observer = ExampleObserver(splits.classes)
    train = LabelledData(data["train"]).observed(observer).x
    with original_error(observer):
        fit_with_progress(
            teacher, console, "teacher", ["accuracy"], train, epochs=epochs
        )
    return teacher


def train_cascade(teacher, student, distillation, data, console, epochs):
    """Distils the teacher into the student.

    Returns:
        `(Cascade, History)`.
    """
    cascade = Cascade(teacher, student, distillation=distillation)
    cascade.compile(
        optimizer=_optimizer(STUDENT_LEARNING_RATE, data["train"], epochs)
    )
    history = fit_with_progress(
        cascade,
        console,
        "student",
        ["student_accuracy", "selected_fraction"],
        data["train"],
        epochs=epochs,
    )
    return cascade, history


def _optimizer(learning_rate, train, epochs):
    steps = int(train.cardinality())
    if steps < 1:  # unknown
        return keras.optimizers.Adam(learning_rate)
    return keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(learning_rate, epochs * steps)
    )
