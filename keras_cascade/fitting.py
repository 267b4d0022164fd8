"""Data and callbacks of one call of `Cascade.fit`."""

import collections
import contextlib
import warnings

import keras
import numpy as np

from keras_cascade.datasets.batches import is_tf_dataset, take_rows
from keras_cascade.datasets.fingerprint import hash_examples
from keras_cascade.datasets.labelled_data import (
    ExampleObserver,
    LabelledData,
    original_error,
)
from keras_cascade.gates import ClassGate
from keras_cascade.teacher_logits.cached_data import CachedData

BINS = 10
WIDTH = 40


class TrainingRun:
    """Data of one `fit`, checked, cached and recorded.

    Args:
        cascade: `Cascade`, prepared.
        data: `LabelledData` to train on.
        validation: `LabelledData`, or `None`.
        validation_split: float in [0, 1): share of arrays, the last ones,
            that Keras holds out, where there is no `validation`.
        every_epoch: bool. An epoch does not draw all of the data, so that
            later ones draw examples that are new. Only the first epoch is
            recorded otherwise.

    Attributes:
        data: `LabelledData` for `keras.Model.fit`.
        validation: `LabelledData` for `keras.Model.fit`, or `None`.
        callbacks: list of callbacks that the run needs.
    """

    def __init__(
        self, cascade, data, validation, validation_split, every_epoch
    ):
        record = cascade.data_record
        self.steps = RecordedSteps(record, data, every_epoch)
        held_out = self.steps.validation_drawn
        trained = ExampleObserver(cascade.check_labels, self.steps.drawn)
        validated = ExampleObserver(cascade.check_labels, held_out)
        _warn_of_processes(data)
        self.validation = None
        if validation is not None:
            self.validation = validation.observed(validated)
            self.data = data.observed(trained)
        elif validation_split and data.y is not None:
            # As Keras cuts them: the last ones are held out.
            count = int(data.size * (1.0 - validation_split))
            _rows(data, slice(0, count)).observed(trained)
            _rows(data, slice(count, None)).observed(validated)
            self.data = data
        else:
            self.data = data.observed(trained)
        self.callbacks = [self.steps]
        self._sources = [
            trained, validated, *external_sources(cascade.teacher),
        ]  # fmt: skip

    def use_cache(self, cache, shuffle):
        """Puts cached teacher logits beside the inputs.

        Args:
            cache: `TeacherLogitsCache`.
            shuffle: bool, of `fit`. Arrays are shuffled here.
        """
        cached = CachedData(cache)
        self._sources.append(cached)
        self.callbacks.append(
            keras.callbacks.LambdaCallback(
                on_epoch_begin=lambda epoch, _: setattr(cached, "view", epoch)
            )
        )
        self.data = cached.joined(self.data, shuffle)

    @contextlib.contextmanager
    def original_error(self):
        """Context manager that raises the original error of a batch."""
        with original_error(*self._sources):
            yield


class RecordedSteps(keras.callbacks.Callback):
    """Records examples as trained on once the step that used them has run.

    Batches of a `tf.data.Dataset` or an iterator run in the order in which
    they are drawn, but are drawn ahead. Arrays and PyDatasets are shuffled:
    with their first step all that was drawn counts.

    Args:
        record: `DataRecord`.
        data: `LabelledData` that Keras is given.
        every_epoch: bool. Records more than the first epoch.
    """

    # Not `async_safe`: Keras would call `on_train_batch_end` in a thread, and
    # an error could leave `fit` before the last steps are recorded.

    def __init__(self, record, data, every_epoch):
        super().__init__()
        self._record = record
        self._is_drawn_twice = is_tf_dataset(data.x) or data.is_py_dataset
        self._in_order = not data.can_be_shuffled and (
            is_tf_dataset(data.x) or not data.can_be_read_again
        )
        self._every_epoch = every_epoch
        self._recording = True
        self._drawn = collections.deque()
        self._validation_drawn = collections.deque()
        self._epoch_start = self._recorded_steps = 0

    def drawn(self, x):
        """Adds a batch of training inputs that Keras has drawn."""
        if self._recording:
            self._drawn.append(hash_examples(x))

    def validation_drawn(self, x):
        """Adds a batch of validation inputs that Keras has drawn."""
        if self._recording:
            self._validation_drawn.append(hash_examples(x))

    def on_train_begin(self, logs=None):
        # Keras built the model with batches of its own, or looked at their
        # shapes. What it draws of an iterator comes once.
        if self._is_drawn_twice:
            self._drawn.clear()

    def on_train_batch_end(self, batch, logs=None):
        self.record_up_to(self._epoch_start + batch + 1)

    def on_epoch_end(self, epoch, logs=None):
        if self._every_epoch:
            self._epoch_start = self._recorded_steps
            return
        if self._in_order and self.model.stop_training:
            self._drawn.clear()  # drawn ahead, for steps that did not run
        self._record_all(self._drawn, self._record.training)
        self._recording = False

    def on_test_end(self, logs=None):
        self._record_all(self._validation_drawn, self._record.validation)

    def record_up_to(self, steps):
        """Records the examples of the first `steps` steps."""
        self._record.forget_calibration()
        if not self._in_order:
            self._record_all(self._drawn, self._record.training)
        while self._recorded_steps < steps and self._drawn:
            self._record.training.add(self._drawn.popleft())
            self._recorded_steps += 1
        self._recorded_steps = max(steps, self._recorded_steps)

    @staticmethod
    def _record_all(drawn, fingerprint):
        while drawn:
            fingerprint.add(drawn.popleft())


def check_cache(cache, cascade, inputs, verbose):
    """Refuses a stale cache; prints the teacher's margins.

    Args:
        cache: `TeacherLogitsCache`.
        cascade: `Cascade` that is about to be trained.
        inputs: a few of the training inputs, before any augmentation.
        verbose: of `fit`.
    """
    if cache.info["teacher_sha256"] is not None:  # of one single teacher
        both = cascade.two_stage_pass()
        cache.spot_check(both.ask_teacher, inputs, both.answers)
    if verbose and cascade.task.one_class_per_example:
        print(margin_summary(cache.margins(), cascade.distillation))


def external_sources(teacher):
    """The teacher as a source of errors inside of a graph, where it is one.

    Args:
        teacher: the cascade's teacher.

    Returns:
        List of objects with an attribute `error`, which is reset.
    """
    if not getattr(teacher, "is_external", False):
        return []
    teacher.error = None
    return [teacher]


def margin_summary(margins, policy):
    """Text histogram of margins, with the share that a policy selects.

    Args:
        margins: float array `(examples,)`, in [0, 1].
        policy: `DistillationPolicy`; one with a margin threshold gets its
            selected fraction stated.

    Returns:
        str of several lines.
    """
    counts, edges = np.histogram(margins, bins=BINS, range=(0.0, 1.0))
    lines = [f"Teacher margins of {len(margins):,} cached examples:"]
    for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True):
        share = count / max(len(margins), 1)
        bar = "#" * round(WIDTH * share)
        lines.append(f"  {low:.1f} to {high:.1f}  {share:6.1%}  {bar}")
    threshold = policy.gate_defaults().get("margin")
    if threshold is not None:
        selected = float((margins > threshold).mean())
        lines.append(f"Above the threshold {threshold}: {selected:.1%}.")
    return "\n".join(lines)


def warn_of_selection(policy, history):
    """Warns of a policy that hardly tells examples apart.

    Args:
        policy: `DistillationPolicy`.
        history: `keras.callbacks.History`.
    """
    share = history.history.get("selected_fraction", [None])[-1]
    if not policy.selective or share is None or 0.02 <= share <= 0.98:
        return
    advice = (
        "The student learns next to nothing from the teacher: select more."
        if share < 0.02
        else "A teacher is overconfident on its own training data: train the "
        "student on held-out or augmented data or with cross-fitted logits, "
        "or select less."
    )
    warnings.warn(
        f"{type(policy).__name__} selected {share:.1%} of the training "
        f"examples, so it hardly tells them apart. {advice}",
        stacklevel=3,
    )


def warn_of_class_gate(policy, gate, history):
    """Warns of a class gate that keeps what is not in-domain.

    Smoothed labels of at least 0.4 leave the student so unsure outside its
    domain that an in-domain class is often its likeliest one.

    Args:
        policy: `DistillationPolicy`.
        gate: `Gate`.
        history: `keras.callbacks.History`.
    """
    logs = history.history
    smoothing = getattr(policy, "label_smoothing", 0.0)
    by_class = isinstance(gate, ClassGate) and gate.threshold == 0.0
    if not by_class or smoothing < 0.4 or not logs.get("delegation_rate"):
        return
    outside = 1.0 - logs["selected_fraction"][-1]
    delegated = logs["delegation_rate"][-1]
    if delegated < 0.5 * outside:
        warnings.warn(
            f"The class gate delegates {delegated:.1%} of the training "
            f"examples, of which {outside:.1%} are not in-domain: with "
            f"label_smoothing={smoothing:g} an in-domain class is often the "
            "student's likeliest one elsewhere too, at little confidence. "
            "Calibrate the threshold, or use gate='margin'.",
            stacklevel=3,
        )


def with_callbacks(callbacks, needed):
    """Callbacks of the run, followed by those of the user.

    Args:
        callbacks: of `keras.Model.fit`.
        needed: list of callbacks.
    """
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks.callbacks[:0] = needed
        return callbacks
    own = [] if callbacks is None else keras.tree.flatten(callbacks)
    return [*needed, *own]


def _rows(data, rows):
    return LabelledData(take_rows(data.x, rows), data.y[rows])


def _warn_of_processes(data):
    if getattr(data.x, "use_multiprocessing", False):
        warnings.warn(
            "A PyDataset with `use_multiprocessing=True` draws its "
            "batches in other processes, so its examples cannot be "
            "remembered: `calibrate` will not notice if it is given "
            "training data.",
            stacklevel=4,
        )
