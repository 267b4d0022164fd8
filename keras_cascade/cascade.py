"""The cascade: a teacher, a student and a gate in one Keras model."""

import contextlib
import dataclasses

import keras

from keras_cascade import steps
from keras_cascade.datasets import batches
from keras_cascade.datasets.fingerprint import Fingerprint
from keras_cascade.datasets.input_checks import checked_batches
from keras_cascade.datasets.watched import Watcher, original_error
from keras_cascade.evaluation.costs import Costs
from keras_cascade.fitting import (
    FitArguments,
    check_cache,
    warn_of_selection,
    weighed,
)
from keras_cascade.gated_pair import GatedPair
from keras_cascade.utils.serialized_model import serialized_model


@keras.saving.register_keras_serializable("keras_cascade")
class Cascade(GatedPair):
    """A student that answers what it can, and a teacher for the rest.

    `fit` trains the student by selective distillation; the teacher is frozen
    (no gradient, no BatchNormalization update, not in
    `trainable_variables`). `calibrate` sets the gate's threshold. `evaluate`
    measures student, teacher and cascade side by side. `predict` runs the
    teacher on delegated rows only.

    Method: arXiv 2110.10305.

    Args:
        teacher: `keras.Model` from inputs to logits `(batch, classes)`; or
            another `Cascade`.
        student: `keras.Model` from the same inputs to logits over the same
            classes.
        distillation: name, dict or `DistillationPolicy`. Defaults to
            `"standard"`.
        gate: name, dict or `Gate`. Made by name, it takes over the class
            subset or margin of the distillation policy. Defaults to
            `"margin"`.
        costs: `Costs` of one example. Defaults to `None`: counted in
            floating-point operations when data is first seen, in units of
            one teacher pass.
        **kwargs: of `keras.Model`.

    Call returns:
        Dict of `probabilities` `(batch, classes)`, `score` `(batch,)` and
        `delegated` `(batch,)`, with `student_logits` and `teacher_logits`.
        A call runs both models on every row; `predict` does not.

    Callbacks can monitor every metric and its `val_` twin; Keras knows which
    way is better only when told: `EarlyStopping("val_cascade_accuracy",
    mode="max")`.

    Example:

    >>> import keras, numpy as np
    >>> import keras_cascade as kc
    >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> cascade = kc.Cascade(teacher, student, gate="max_probability")
    >>> cascade.compile(optimizer="adam")
    >>> x, y = np.random.rand(8, 4), np.array([0, 1, 2, 0, 1, 2, 0, 1])
    >>> history = cascade.fit(x, y, verbose=0)
    >>> sorted(cascade.predict(x, verbose=0))
    ['delegated', 'probabilities', 'score']
    """

    def __init__(
        self,
        teacher,
        student,
        distillation="standard",
        gate="margin",
        costs=None,
        **kwargs,
    ):
        costs = Costs(**costs) if isinstance(costs, dict) else costs
        super().__init__(teacher, student, distillation, gate, costs, **kwargs)

    # What a user calls.

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        validation_split=0.0,
        validation_data=None,
        shuffle=True,
        class_weight=None,
        sample_weight=None,
        initial_epoch=0,
        steps_per_epoch=None,
        validation_steps=None,
        validation_batch_size=None,
        validation_freq=1,
        teacher_logits=None,
        traffic=None,
        spot_check=True,
    ):
        """Trains the student. Takes what `keras.Model.fit` takes, and more.

        Args:
            teacher_logits: `TeacherLogitsCache`. The teacher then does not
                run on training batches. Defaults to `None`.
            traffic: `TrafficMix`. Weighs arrays `x`, `y` so that their
                classes count as often as they come in deployment. Defaults
                to `None`.
            spot_check: bool. Before training, compares some cached logits
                with the live teacher and shows the cached margins. Defaults
                to `True`.

        Inputs and labels are checked on the way, and the training examples
        are remembered by hash, so that `calibrate` can refuse them. An
        earlier calibration no longer holds afterwards and is forgotten; its
        threshold stays until the next.

        Raises:
            ValueError: labels out of range or one-hot, NaN in inputs, no
                examples, probabilities in place of logits.
        """
        arguments = {
            "x": self.prepare(x),
            "y": y,
            "batch_size": batch_size,
            "epochs": epochs,
            "verbose": verbose,
            "callbacks": callbacks,
            "validation_split": validation_split,
            "validation_data": validation_data,
            "shuffle": shuffle,
            "class_weight": class_weight,
            "sample_weight": sample_weight,
            "initial_epoch": initial_epoch,
            "steps_per_epoch": steps_per_epoch,
            "validation_steps": validation_steps,
            "validation_batch_size": validation_batch_size,
            "validation_freq": validation_freq,
        }
        ready = FitArguments(self.classes, arguments)
        if teacher_logits is not None and spot_check:
            inputs, arguments["x"] = batches.first_rows(arguments["x"])
            check_cache(teacher_logits, self, inputs, verbose)
        if traffic is not None:
            ready.weigh(traffic)
        ready.watch(self._data_record.training, self._data_record.validation)
        if teacher_logits is not None:
            ready.use_cache(teacher_logits)
        self._data_record.forget_calibration()
        with original_error(*ready.sources), self._recovering():
            history = super().fit(**arguments)
        warn_of_selection(self.distillation, history)
        return history

    @contextlib.contextmanager
    def _recovering(self):
        try:
            yield
        except BaseException:
            steps.recover(self)
            raise

    def train_on_batch(self, x, y=None, *args, **kwargs):
        """One step on one batch. Takes what Keras's own takes."""
        self.prepare(x)
        Watcher(self.classes).watch(x, y, remember=self._data_record.training)
        self._data_record.forget_calibration()
        return super().train_on_batch(x, y, *args, **kwargs)

    def test_on_batch(self, x, y=None, *args, **kwargs):
        """Metrics of one batch. Takes what Keras's own takes."""
        self.prepare(x)
        Watcher(self.classes).watch(x, y)
        return super().test_on_batch(x, y, *args, **kwargs)

    def evaluate(
        self,
        x=None,
        y=None,
        *args,
        traffic=None,
        allow_training_data=False,
        **kwargs,
    ):
        """Measures student, teacher and cascade on labelled examples.

        Takes what `keras.Model.evaluate` takes. With `return_dict=True`
        returns `loss`, `student_accuracy`, `teacher_accuracy`,
        `cascade_accuracy`, `delegation_rate`, `selected_fraction`,
        `amortized_cost`, and the metrics given to `compile`.

        Args:
            traffic: `TrafficMix`. Weighs arrays `x`, `y` so that their
                classes count as often as they come in deployment. Defaults
                to `None`.
            allow_training_data: bool. Accepts examples that the student was
                trained on, the gate fitted on or the threshold chosen on, and
                with them numbers that are too good. Defaults to `False`.

        Raises:
            ValueError: more than 1 % of the examples were used before.
        """
        if kwargs.get("_use_cached_eval_dataset"):  # by `fit`: checked there
            return super().evaluate(x, y, *args, **kwargs)
        x = self.prepare(x)
        if traffic is not None:
            kwargs["sample_weight"] = weighed(
                traffic, x, y, kwargs.get("sample_weight")
            )
        watcher, examples = Watcher(self.classes), Fingerprint()
        x = watcher.watch(x, y, remember=examples)
        with original_error(watcher), self._recovering():
            measured = super().evaluate(x, y, *args, **kwargs)
        if not allow_training_data:
            self._data_record.refuse(
                examples, "training", "gate", "calibration"
            )
        self._data_record.test = examples
        return measured

    def predict(
        self, x, batch_size=None, verbose="auto", steps=None, callbacks=None
    ):
        """Answers every row; the teacher runs on delegated rows only.

        Delegated rows are gathered over batches, so that the teacher sees
        full batches.

        Args:
            x: of `keras.Model.predict`.
            batch_size: int, with arrays. Defaults to `32`.
            verbose: of `keras.Model.predict`. Defaults to `"auto"`.
            steps: int, at most so many batches. Defaults to `None`.
            callbacks: of `keras.Model.predict`. Defaults to `None`.

        Returns:
            Dict of `probabilities` `(rows, classes)`, `score` `(rows,)` and
            `delegated` `(rows,)`, NumPy arrays.
        """
        x = self.prepare(x)
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = keras.callbacks.CallbackList(
                callbacks,
                add_progbar=verbose != 0,
                verbose=verbose,
                epochs=1,
                steps=batches.number_of_batches(x, batch_size, steps),
                model=self,
            )
        callbacks.on_predict_begin()
        answer = self.two_stage_pass().predict(
            checked_batches(x, batch_size=batch_size, steps=steps),
            callbacks.on_predict_batch_begin,
            callbacks.on_predict_batch_end,
        )
        callbacks.on_predict_end()
        return answer

    def export(self, filepath, format="bundle", **kwargs):
        """Writes what ships.

        Args:
            filepath: str or path. A folder for `"bundle"` and
                `"tf_saved_model"`, a `.tflite` file for `"litert"`, an
                `.onnx` file for `"onnx"`.
            format: `"bundle"` (student with gate as TFLite, teacher as
                SavedModel, manifest and model card; see
                `keras_cascade.export.export_bundle`), `"litert"` (student
                with gate alone), `"onnx"` (the same, or with
                `part="teacher"` the teacher) or `"tf_saved_model"` (the whole
                cascade in one graph, the teacher on delegated rows only).
                Defaults to `"bundle"`.
            **kwargs: of the format's own exporter. `"bundle"` takes
                `calibration_data`, by default what `calibrate` was given.
        """
        from keras_cascade import export

        if format == "bundle":
            kwargs.setdefault(
                "calibration_data", self._data_record.calibration_data
            )
            return export.export_bundle(self, filepath, **kwargs)
        if format == "litert":
            kwargs.setdefault(
                "example_inputs", self._data_record.example_inputs
            )
            return export.export_student(self, filepath, **kwargs)
        if format == "onnx":
            kwargs.setdefault(
                "example_inputs", self._data_record.example_inputs
            )
            return export.export_onnx(self, filepath, **kwargs)
        if format == "tf_saved_model":
            kwargs.setdefault(
                "example_inputs", self._data_record.example_inputs
            )
            return export.export_fused(self, filepath, **kwargs)
        raise ValueError(
            "Expected format 'bundle', 'litert', 'onnx' or "
            "'tf_saved_model'. "
            f"Received: {format!r}."
        )

    # Saving.

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "teacher": serialized_model(self.teacher),
            "student": serialized_model(self.student),
            "distillation": serialize(self.distillation),
            "gate": serialize(self.gate),
            "costs": self.costs and dataclasses.asdict(self.costs),
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        for name in ("teacher", "student", "distillation", "gate"):
            config[name] = keras.saving.deserialize_keras_object(config[name])
        return cls(**config)

    def save_assets(self, dir_path):
        """Keras calls this: the record goes into the .keras file."""
        self._data_record.save(dir_path)

    def load_assets(self, dir_path):
        """Keras calls this: the inverse of `save_assets`."""
        self._data_record.load(dir_path)
