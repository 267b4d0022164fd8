"""Training of a teacher and of a cascade, with a progress bar."""

import keras
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from keras_cascade import Cascade
from keras_cascade.datasets.input_checks import class_label_check
from keras_cascade.datasets.labelled_data import (
    ExampleObserver,
    LabelledData,
    original_error,
)

TEACHER_LEARNING_RATE = 2e-3
STUDENT_LEARNING_RATE = 5e-3
BATCH_SIZE = 128
#: Larger images go in smaller batches.
BATCH_BYTES = 6 * 1024 * 1024
SMALLEST_BATCH = 8


def batched(splits, batch_size=BATCH_SIZE):
    """Returns a dict of the three splits in batches, training data shuffled.

    Args:
        splits: `Splits`.
        batch_size: int, at most so many; fewer of large images. Defaults to
            `128`.
    """
    spec = splits.train.element_spec[0]
    if spec.shape.is_fully_defined():
        row_bytes = spec.shape.num_elements() * spec.dtype.size
        fitting = BATCH_BYTES // max(1, row_bytes)
        batch_size = min(batch_size, max(SMALLEST_BATCH, fitting))

    def batches(examples):
        return examples.batch(batch_size).prefetch(2)

    return {
        "train": batches(splits.shuffled),
        "calibration": batches(splits.calibration),
        "test": batches(splits.test),
    }


def train_teacher(teacher, splits, data, console, epochs):
    """Trains a reference teacher on the labels.

    Args:
        teacher: `keras.Model`.
        splits: `Splits`.
        data: dict of batches, as `batched` returns it.
        console: `rich.console.Console` for the progress bar.
        epochs: int.

    Returns:
        The teacher.
    """
    teacher.compile(
        optimizer=_optimizer(TEACHER_LEARNING_RATE, data["train"], epochs),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    observer = ExampleObserver(class_label_check(splits.classes))
    train = LabelledData(data["train"]).observed(observer).x
    with original_error(observer):
        _fit_with_progress(
            teacher, console, "teacher", ["accuracy"], train, epochs
        )
    return teacher


def train_cascade(teacher, student, distillation, data, console, epochs):
    """Distils the teacher into the student.

    Args:
        teacher: trained `keras.Model`.
        student: `keras.Model`.
        distillation: str or `DistillationPolicy`.
        data: dict of batches, as `batched` returns it.
        console: `rich.console.Console` for the progress bar.
        epochs: int.

    Returns:
        `(Cascade, History)`.
    """
    cascade = Cascade(teacher, student, distillation=distillation)
    cascade.compile(
        optimizer=_optimizer(STUDENT_LEARNING_RATE, data["train"], epochs)
    )
    history = _fit_with_progress(
        cascade,
        console,
        "student",
        ["student_accuracy", "selected_fraction"],
        data["train"],
        epochs,
    )
    return cascade, history


def _optimizer(learning_rate, train, epochs):
    steps = int(train.cardinality())
    if steps < 1:  # unknown
        return keras.optimizers.Adam(learning_rate)
    return keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(learning_rate, epochs * steps)
    )


class _ProgressBar(keras.callbacks.Callback):
    """Callback that shows one bar for all epochs, with metrics beside it.

    Args:
        console: `rich.console.Console`.
        model_name: str, shown before the bar.
        metrics: list of metric names to show.
    """

    def __init__(self, console, model_name, metrics):
        super().__init__()
        self._model_name = model_name
        self._metrics = metrics
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[metrics]}"),
            console=console,
        )

    def on_train_begin(self, logs=None):
        """Starts the bar."""
        self._progress.start()
        self._task = self._progress.add_task(
            self._model_name, total=self.params["epochs"], metrics=""
        )
        self._steps = self.params.get("steps")

    def on_train_batch_end(self, batch, logs=None):
        """Advances within an epoch if the number of steps is known."""
        if self._steps:
            self._progress.update(
                self._task, completed=self._epoch + (batch + 1) / self._steps
            )

    def on_epoch_begin(self, epoch, logs=None):
        """Stores the epoch."""
        self._epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        """Shows the epoch's metrics."""
        parts = [
            f"{name} {logs[name]:.3f}" for name in self._metrics if name in logs
        ]
        self._progress.update(
            self._task, completed=epoch + 1, metrics="  ".join(parts)
        )

    def stop(self):
        """Ends the bar; it stays on the screen as it is."""
        self._progress.stop()


def _fit_with_progress(model, console, model_name, metrics, data, epochs):
    """Runs `model.fit` with one bar; restores the terminal if it raises.

    Returns:
        `keras.callbacks.History`.
    """
    bar = _ProgressBar(console, model_name, metrics)
    try:
        return model.fit(
            data,
            epochs=epochs,
            verbose=0,
            # Keras warns of `shuffle=True` with a `tf.data.Dataset`.
            shuffle=False,
            callbacks=[bar],
        )
    finally:
        bar.stop()
