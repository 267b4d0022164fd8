"""The cascade: a teacher, a student and a gate in one Keras model."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from typing import TYPE_CHECKING, Any, cast

import keras
import numpy as np

from keras_cascade import calibration, steps, tasks
from keras_cascade.data_record import (
    DataRecord,
    check_same_names,
    warn_of_repeats,
)
from keras_cascade.datasets.fingerprint import Fingerprint
from keras_cascade.datasets.input_checks import check_inputs
from keras_cascade.datasets.label_reader import LabelReader
from keras_cascade.datasets.labelled_data import (
    ExampleObserver,
    LabelledData,
    original_error,
)
from keras_cascade.evaluation.costs import Costs
from keras_cascade.evaluation.flops import costs_from_flops
from keras_cascade.fitting import (
    TrainingRun,
    check_cache,
    external_sources,
    warn_of_class_gate,
    warn_of_selection,
    with_callbacks,
)
from keras_cascade.model_checks import check_same_form
from keras_cascade.prediction import TwoStagePass
from keras_cascade.selective_trainer import SelectiveTrainer
from keras_cascade.teacher_checks import warn_of_teacher
from keras_cascade.utils.serialized_model import serialized_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from keras_cascade.calibration import Objective, OperatingPoint
    from keras_cascade.distillation import DistillationPolicy
    from keras_cascade.evaluation import ExampleResults
    from keras_cascade.gates import Gate
    from keras_cascade.tasks import Task
    from keras_cascade.teacher_logits import TeacherLogitsCache
    from keras_cascade.traffic_mix import TrafficMix


@keras.saving.register_keras_serializable("keras_cascade")
class Cascade(SelectiveTrainer):
    """Keras model of a student, a gate and a teacher for delegated rows.

    `fit` trains the student by selective distillation; the teacher is frozen
    (no gradient, no BatchNormalization update, not in
    `trainable_variables`). `calibrate` sets the gate's threshold. `evaluate`
    measures student, teacher and cascade side by side. `predict` runs the
    teacher on delegated rows only.

    Method: arXiv 2110.10305.

    Args:
        teacher: `keras.Model`, a classifier; another `Cascade`; or a teacher
            that is no Keras model, as `keras_cascade.teachers.get` takes it.
        student: `keras.Model` from the same inputs to the same classes.
        distillation: name, dict or `DistillationPolicy`. Defaults to
            `"standard"`.
        gate: name, dict or `Gate`. Made by name, it takes over the class
            subset or margin of the distillation policy. Defaults to
            `"margin"`, or that of the task.
        costs: `Costs` of one example. Defaults to `None`: counted in
            floating-point operations when data is first seen, in units of
            one teacher pass.
        task: `"multiclass"`, `"binary"`, `"multilabel"`, dict or
            `keras_cascade.tasks.Task`: what is predicted, and the loss that
            is guaranteed. Defaults to `"multiclass"`.
        **kwargs: of `keras.Model`.

    Call arguments:
        inputs: what teacher and student take, with a batch axis.
        training: bool. Runs the student in training mode. Defaults to
            `False`.

    Call returns:
        Dict of `probabilities` `(batch, classes)`, `score` `(batch,)` and
        `delegated` `(batch,)`, with `student_logits` and `teacher_logits`.
        A call runs both models on every row; `predict` does not. In training
        mode, with a policy that needs no teacher (`needs_teacher`), there is
        the student's part only, and the logs of `fit` have no
        `teacher_accuracy` and `cascade_accuracy`.

    A classifier outputs logits `(batch, classes)`, the softmax or sigmoid of
    them, or one value of two classes, with or without a sigmoid. Logits are
    read before the last activation (`keras_cascade.models.logits_model`);
    `cascade.teacher` and `cascade.student` are models of logits with the same
    weights, and the models that were passed in stay as they are. Where a
    subclassed model outputs probabilities, their logarithms stand in, with a
    warning. One logit z is the two logits `(0, z)`. A list attribute
    `class_names` of a model is taken over; of two models it must be the same.

    Labels are integers from 0, one-hot rows, numbers from 1 to the number of
    classes (arrays), or class names, once `class_names` is known.

    Callbacks can monitor every metric and its `val_` counterpart. Keras does
    not know which direction is better: pass `mode`, as in
    `EarlyStopping("val_cascade_accuracy", mode="max")`.

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
        teacher: Any,
        student: keras.Model,
        distillation: str | dict | DistillationPolicy | None = "standard",
        gate: str | dict | Gate | None = None,
        costs: Costs | dict | None = None,
        task: str | dict | Task | None = "multiclass",
        **kwargs: Any,
    ) -> None:
        costs = Costs(**costs) if isinstance(costs, dict) else costs
        super().__init__(
            teacher, student, distillation, gate, costs, task, **kwargs
        )
        self._data_record = DataRecord()
        self._data_record.see_class_names(
            _class_names(teacher, student), self.classes
        )
        self._pass: TwoStagePass | None = None
        self._prepared = False
        self._compiled_with = _class_thresholds(self)

    # Training.

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: str | int = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: dict | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int = 1,
        teacher_logits: TeacherLogitsCache | None = None,
        traffic: TrafficMix | None = None,
        spot_check: bool = True,
        class_names: Sequence[str] | None = None,
    ) -> keras.callbacks.History:
        """Trains the student. Takes what `keras.Model.fit` takes, and more.

        Args:
            teacher_logits: `TeacherLogitsCache`. The teacher then does not
                run on training batches. Defaults to `None`.
            traffic: `TrafficMix`. Weights arrays `x`, `y` so that their
                classes count as often as they come in deployment; and
                `validation_data` likewise. Defaults to `None`.
            spot_check: bool. Before training, compares some cached logits
                with the live teacher and shows the cached margins. Defaults
                to `True`.
            class_names: list of str, the classes in the order of the models'
                outputs, for labels that are names. Kept for later calls.
                Defaults to `None`: as known.

        Inputs and labels are checked as they are drawn. Examples are recorded
        by hash once the step that used them has run, so that `calibrate` can
        refuse them. A teacher that is near chance, below the student, equal to
        it, or worse in inference than in training is warned of first. With the
        first step an earlier calibration no longer
        holds and is forgotten; its threshold stays until the next.

        Raises:
            ValueError: labels out of range or ambiguous, NaN in inputs, no
                examples.
        """
        self._check_task_takes(traffic=traffic, class_weight=class_weight)
        if teacher_logits is not None:
            teacher_logits.check_task(self.task)
        data = self.prepare(LabelledData(x, y, sample_weight, batch_size))
        data = self._with_indices(data, class_names, strict=True)
        if teacher_logits is not None:
            teacher_logits.check_trains(self.teacher)
        if teacher_logits is not None and spot_check:
            check_cache(teacher_logits, self, data.first_rows(), verbose)
        if teacher_logits is None:
            warn_of_teacher(self, data)
        if traffic is not None:
            data = data.weighted(traffic)
        if validation_data is not None:
            validation_data = self._with_indices(
                LabelledData.from_argument(validation_data)
            )
            if traffic is not None:
                validation_data = traffic.applied_to_validation(validation_data)
        # Keras cannot shuffle other batches, and would warn that it does not.
        shuffle = shuffle and data.can_be_shuffled
        run = TrainingRun(
            self,
            data,
            validation_data,
            validation_split,
            steps_per_epoch is not None,
        )
        if teacher_logits is not None:
            if validation_split:
                raise ValueError(
                    "Expected `validation_data` with cached logits. Received: "
                    "`validation_split`."
                )
            run.use_cache(teacher_logits, shuffle)
            shuffle = shuffle and not data.is_arrays
        with run.original_error(), self.recovering():
            history = super().fit(
                run.data.keras_x,
                run.data.y,
                run.data.batch_size,
                epochs,
                verbose,
                with_callbacks(callbacks, run.callbacks),
                validation_split,
                None if run.validation is None else run.validation.as_tuple(),
                shuffle,
                class_weight,
                run.data.sample_weight,
                initial_epoch,
                steps_per_epoch,
                validation_steps,
                validation_batch_size,
                validation_freq,
            )
        warn_of_selection(self.distillation, history)
        warn_of_class_gate(self.distillation, self.gate, history)
        return history

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: dict | None = None,
        return_dict: bool = False,
    ) -> Any:
        """Runs one step on one batch, as `keras.Model.train_on_batch` does."""
        data = self._labelled(LabelledData(x, y, sample_weight))
        examples = Fingerprint()
        data.observed(ExampleObserver(self.check_labels, examples.update))
        result = super().train_on_batch(
            data.keras_x,
            data.y,
            data.sample_weight,
            class_weight,
            return_dict,
        )
        self._data_record.training.merge(examples)
        self._data_record.forget_calibration()
        return result

    def test_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """Metrics of one batch, as `keras.Model.test_on_batch` has them."""
        data = self._labelled(LabelledData(x, y, sample_weight))
        data.observed(ExampleObserver(self.check_labels))
        return super().test_on_batch(
            data.keras_x, data.y, data.sample_weight, return_dict
        )

    # Measuring and answering.

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
        traffic: TrafficMix | None = None,
        allow_training_data: bool = False,
        _use_cached_eval_dataset: bool = False,
        class_names: Sequence[str] | None = None,
    ) -> Any:
        """Measures student, teacher and cascade on labelled examples.

        Takes what `keras.Model.evaluate` takes. With `return_dict=True`
        returns `loss`, `student_accuracy`, `teacher_accuracy`,
        `cascade_accuracy`, `delegation_rate`, `selected_fraction`,
        `amortized_cost`, and the metrics given to `compile`.

        Args:
            traffic: `TrafficMix`. Weights arrays `x`, `y` so that their
                classes count as often as they come in deployment. Defaults
                to `None`.
            allow_training_data: bool. Accepts examples that the student was
                trained on, the gate fitted on or the threshold chosen on, and
                with them numbers that are too good. Defaults to `False`.
            class_names: as `fit`.

        Raises:
            ValueError: more than 1 % of the examples were used before.
        """
        self._check_task_takes(traffic=traffic)
        rest = (verbose, sample_weight, steps, callbacks, return_dict)
        if _use_cached_eval_dataset:  # by Keras in `fit`: checked there
            return super().evaluate(
                x, y, batch_size, *rest, _use_cached_eval_dataset=True
            )
        if isinstance(x, tuple) and y is None:
            data = LabelledData.from_argument(x, batch_size=batch_size)
        else:
            data = LabelledData(x, y, sample_weight, batch_size)
        data = self._with_indices(self.prepare(data), class_names)
        if traffic is not None:
            data = data.weighted(traffic)
        examples = Fingerprint()
        observer = ExampleObserver(self.check_labels, examples.update)
        data = data.observed(observer)
        sources = [observer, *external_sources(self.teacher)]
        with original_error(*sources), self.recovering():
            metrics = super().evaluate(
                data.keras_x,
                data.y,
                batch_size,
                verbose,
                data.sample_weight,
                steps,
                callbacks,
                return_dict,
            )
        if not allow_training_data:
            self._data_record.refuse(
                examples, "training", "gate", "calibration"
            )
        self._data_record.test = examples
        return metrics

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> dict[str, np.ndarray]:
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
            `delegated` `(rows,)`, NumPy arrays. With another task than
            classes its answers, in the teacher's shape, are under
            `Task.answer_name`: `"values"` of a regression.
        """
        data = self.prepare(LabelledData(x, batch_size=batch_size))
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = keras.callbacks.CallbackList(
                callbacks,
                add_progbar=verbose != 0,
                verbose=verbose,
                epochs=1,
                steps=data.number_of_batches(steps),
                model=self,
            )
        callbacks.on_predict_begin()
        answer = self.two_stage_pass().predict(
            data.checked_batches(steps=steps),
            callbacks.on_predict_batch_begin,
            callbacks.on_predict_batch_end,
        )
        callbacks.on_predict_end()
        return answer

    def judge(
        self,
        data: Any,
        y: Any = None,
        batch_size: int | None = None,
        traffic: TrafficMix | None = None,
        keep_outputs: bool = False,
        teacher_logits: TeacherLogitsCache | None = None,
        spot_check: bool = True,
        class_names: Sequence[str] | None = None,
    ) -> ExampleResults:
        """Scores labelled examples, and compares both models with the labels.

        Args:
            data: labelled examples: `(x, y)` or `(x, y, sample_weight)`
                arrays, or batches of those; or inputs, with `y` beside them.
            y: labels, where `data` is inputs alone. Defaults to `None`.
            batch_size: int, with arrays. Defaults to `32`.
            traffic: `TrafficMix`. Weights the examples so that their classes
                count as often as they come in deployment. Defaults to `None`.
            keep_outputs: bool. Keeps the gate's inputs, for fitting a gate:
                all of the student's outputs, or, where they are more than
                256 and the gate is a `LearnedGate` or has a temperature, what
                it reads of them.
                Defaults to `False`.
            teacher_logits: `TeacherLogitsCache` of these examples. The
                teacher then does not run on them, which saves most of the
                time where many students of one teacher are scored. Defaults
                to `None`.
            spot_check: bool. Compares some cached logits with the live
                teacher first. Defaults to `True`.
            class_names: as `fit`.

        Returns:
            `keras_cascade.evaluation.ExampleResults`.

        Raises:
            ValueError: an example is not in the cache, or the cache is of
                another teacher or task.
        """
        self._check_task_takes(traffic=traffic)
        data = self._labelled(data, y, batch_size, class_names)
        ask_teacher = None
        if teacher_logits is not None:
            teacher_logits.check_task(self.task)
            teacher_logits.check_answers_for(self.teacher)
            ask_teacher = self._cached_answers(teacher_logits)
            if spot_check:
                both = self.two_stage_pass()
                teacher_logits.spot_check(
                    both.ask_teacher, data.first_rows(), both.answers
                )
        results = self.two_stage_pass().score_examples(
            data.checked_batches(self.check_labels), keep_outputs, ask_teacher
        )
        return results if traffic is None else traffic.applied_to(results)

    def scores(self, x: Any, batch_size: int | None = None) -> np.ndarray:
        """The gate's scores. The teacher does not run.

        Args:
            x: of `keras.Model.predict`.
            batch_size: int, with arrays. Defaults to `32`.

        Returns:
            float32 array `(rows,)`; higher = surer.
        """
        data = self.prepare(LabelledData(x, batch_size=batch_size))
        run = self.two_stage_pass().run_student
        return np.concatenate(
            [run(batch)["score"] for batch, _, _ in data.checked_batches()]
        )

    # The gate and its threshold.

    def fit_gate(
        self,
        data: Any,
        batch_size: int | None = None,
        allow_training_data: bool = False,
        traffic: TrafficMix | None = None,
        *,
        teacher_logits: TeacherLogitsCache | None = None,
        y: Any = None,
    ) -> Gate:
        """Fits a gate that learns, such as `LearnedGate`.

        Comes after `fit` and before `calibrate`, with examples of its own.
        An earlier calibration no longer holds afterwards and is forgotten.

        Args:
            data: held-out labelled examples, as `judge` takes them.
            batch_size: int, with arrays. Defaults to `32`.
            allow_training_data: bool. Accepts examples that the student was
                trained on, where it is surer than elsewhere. Defaults to
                `False`.
            traffic: `TrafficMix`. Weights the examples so that their classes
                count as often as they come in deployment. Defaults to `None`.
            teacher_logits: `TeacherLogitsCache` of these examples, as `judge`
                takes it. Defaults to `None`.
            y: labels, where `data` is inputs alone. Defaults to `None`.

        Returns:
            The gate.

        Raises:
            ValueError: the gate has nothing to fit, the examples were
                trained on, or there is nothing to learn from them. The gate
                is then left as it was.
        """
        self._check_gate_has("fit", "use gate='learned'")
        results = self._results_for_gate(
            data, y, batch_size, allow_training_data, traffic, teacher_logits
        )
        self.gate.fit(results)
        return self._gate_was_fitted(results)

    def fit_temperature(
        self,
        data: Any,
        batch_size: int | None = None,
        allow_training_data: bool = False,
        traffic: TrafficMix | None = None,
        *,
        y: Any = None,
    ) -> Gate:
        """Fits the temperature of a gate that has one, such as `MarginGate`.

        Comes after `fit` and before `calibrate`, with examples of its own.

        Args:
            data: as `fit_gate`.
            batch_size: as `fit_gate`.
            allow_training_data: as `fit_gate`.
            traffic: as `fit_gate`.
            y: as `fit_gate`.

        Returns:
            The gate.
        """
        self._check_gate_has(
            "fit_temperature",
            "use gate='margin', 'max_probability', 'entropy' or 'energy'",
        )
        results = self._results_for_gate(
            data, y, batch_size, allow_training_data, traffic
        )
        self.gate.fit_temperature(
            results.student_outputs, results.labels, results.sample_weight
        )
        return self._gate_was_fitted(results)

    def calibrate(
        self,
        data: Any,
        objective: Objective | list[Objective] | None = None,
        batch_size: int | None = None,
        allow_training_data: bool = False,
        traffic: TrafficMix | None = None,
        seed: int = 0,
        teacher_logits: TeacherLogitsCache | None = None,
        *,
        y: Any = None,
        class_names: Sequence[str] | None = None,
        per_class: bool = False,
        min_class_examples: int = 100,
    ) -> OperatingPoint:
        """Sets the gate's threshold so that an objective is met.

        An objective with a confidence is a guarantee about new examples; one
        without describes these examples only.

        Args:
            data: held-out labelled examples, as `judge` takes them.
            objective: such as `keras_cascade.MaxAccuracyDrop(0.01,
                confidence=0.95)`; or a list of objectives, for the cheapest
                threshold that meets all.
            batch_size: int, with arrays. Defaults to `32`.
            allow_training_data: bool. Accepts examples that the student was
                trained on or the gate fitted on (or, with a confidence, that
                `fit` validated on), and with them numbers that are too good.
                Defaults to `False`.
            traffic: `TrafficMix`. Numbers and guarantees are for this
                traffic; a guarantee then rests on the examples that rejection
                to the mix leaves (`OperatingPoint.effective_examples`).
                Defaults to `None`.
            seed: int, of the rejection. Decide it beforehand: the best of
                ten seeds broke 13.2 % of the guarantees at 95 %. Defaults to
                `0`.
            teacher_logits: `TeacherLogitsCache` of these examples, as `judge`
                takes it. Defaults to `None`.
            y: labels, where `data` is inputs alone. Defaults to `None`.
            class_names: as `fit`.
            per_class: bool. Fits a threshold for each class that the student
                predicts: the objective then holds among the examples of each,
                all of them together with its confidence, as
                `keras_cascade.calibration.fit_threshold` describes. Defaults
                to `False`.
            min_class_examples: int, with `per_class`: classes predicted for
                fewer calibration examples share one threshold. Defaults to
                `100`.

        Returns:
            `OperatingPoint`; `cascade.operating_point` keeps it.

        Raises:
            ValueError: the examples were used before, are all of one class,
                or no threshold meets the objective. The threshold is then
                left as it was.
        """
        self._check_task_takes(per_class=per_class or None)
        # `None` raises there, with a hint.
        condition = calibration.get(cast("Objective", objective))
        self.gate.check_ready()
        data = self._labelled(data, y, batch_size, class_names)
        results = self.judge(
            data, traffic=traffic, teacher_logits=teacher_logits
        )
        if not allow_training_data:
            # An epoch that was chosen on these examples breaks a guarantee; a
            # number that guarantees nothing only flatters a little.
            validation = ("validation",) if condition.guarantees() else ()
            self._data_record.refuse(
                results.examples, "training", *validation, "gate"
            )
        if condition.guarantees():
            warn_of_repeats(results.examples)
        point = calibration.calibrate(
            results,
            condition,
            self.costs,
            traffic,
            seed,
            class_names=self._data_record.class_names,
            per_class=per_class,
            min_class_examples=min_class_examples,
        )
        self.gate.decision_threshold = point.decision_threshold
        self._data_record.calibrated(
            point, results.examples, data, traffic, seed
        )
        return point

    @property
    def threshold(self) -> float:
        """Delegate when `score < threshold`; the highest of several."""
        return self.gate.threshold

    @threshold.setter
    def threshold(self, value: float) -> None:
        self._data_record.forget_calibration()
        self._data_record.outdated = False
        self.gate.threshold = value

    @property
    def operating_point(self) -> OperatingPoint | None:
        """Result of `calibrate`; `None` since a new threshold or `fit`."""
        point = self._data_record.operating_point
        if point is None:
            return None
        in_use = self.gate.decision_threshold
        return point if point.decision_threshold == in_use else None

    @property
    def data_record(self) -> DataRecord:
        """`DataRecord`: which data was trained and calibrated on."""
        return self._data_record

    def forget_data(self) -> None:
        """Forgets every example that was used, and the calibration.

        The student's weights, the gate and its threshold stay. Call it where
        the record no longer applies: after setting other weights, say. What
        the student was in fact trained on must still be kept out of
        `calibrate` and `evaluate`; nothing refuses it from here on.

        Example:

        >>> import keras, numpy as np
        >>> import keras_cascade as kc
        >>> teacher, student = (
        ...     keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        ...     for _ in range(2)
        ... )
        >>> cascade = kc.Cascade(teacher, student)
        >>> cascade.compile()
        >>> x, y = np.random.rand(8, 4), np.arange(8) % 3
        >>> history = cascade.fit(x, y, verbose=0)
        >>> cascade.data_record.training.examples
        8
        >>> cascade.forget_data()
        >>> cascade.data_record.training.examples
        0
        """
        self._data_record.forget()

    # Shipping and saving.

    def export(
        self,
        filepath: str | os.PathLike,
        format: str = "bundle",
        verbose: bool | None = None,
        *,
        calibration_data: Any = None,
        example_inputs: Any = None,
        class_names: Sequence[str] | dict | None = None,
        batch_size: int | None = None,
        overwrite: bool | None = None,
        allow_training_data: bool | None = None,
        quantization: str | None = None,
        training_data: Any = None,
        optimization: dict | None = None,
        onnx: bool | str | None = None,
        operating_points: dict | list | None = None,
        joint: bool | None = None,
        float_layers: Sequence[str] | None = None,
        part: str | None = None,
        input_shape: tuple | dict | None = None,
        io_type: str | None = None,
        input_type: str | None = None,
        targets: str | Sequence[str] | None = None,
    ) -> Any:
        """Writes the files that are deployed.

        Args:
            filepath: str or path. A folder for `"bundle"` and
                `"tf_saved_model"`, a `.tflite` file for `"litert"`, an
                `.onnx` file for `"onnx"`.
            format: `"bundle"` (student with gate as TFLite, teacher as
                SavedModel, manifest and model card; see
                `keras_cascade.export.export_bundle`), `"litert"` (student
                with gate alone, `export_student`), `"onnx"` (the same, or
                with `part="teacher"` the teacher, `export_onnx`) or
                `"tf_saved_model"` (the whole cascade in one graph, the
                teacher on delegated rows only, `export_fused`). Defaults to
                `"bundle"`.
            verbose: bool. Shows progress. Defaults to `None`: where a person
                is looking.
            calibration_data: held-out labelled examples, as `calibrate` takes
                them. Defaults to `None`: what `calibrate` was given.
            example_inputs: a batch of inputs. Defaults to `None`: inputs that
                the cascade was given first.
            class_names: of `export_bundle`.
            batch_size: of `export_bundle` and `export_student`.
            overwrite: of `export_bundle` and `export_fused`.
            allow_training_data: of `export_bundle` and `export_student`.
            quantization: of `export_bundle` and `export_student`.
            training_data: of `export_bundle` and `export_student`.
            optimization: of `export_bundle` and `export_student`.
            onnx: of `export_bundle`.
            operating_points: of `export_bundle`.
            joint: of `export_bundle`: one confidence for all of the operating
                points together.
            float_layers: of `export_bundle` and `export_student`.
            part: of `export_onnx`.
            input_shape: sizes of one example, in the place of those that the
                models leave free, such as `(224, 224, 3)`; or a dict of them
                by input name. Defaults to `None`: what is free stays free.
            io_type: of `export_bundle` and `export_student`: `"int8"` for
                int8 inputs of the student's file.
            input_type: of `export_bundle` and `export_student`: `"uint8"`
                for images of bytes.
            targets: of `export_bundle` and `export_student`: where the file
                must run, out of `"microcontroller"`, `"browser"` and
                `"phone"`.

        Returns:
            `keras_cascade.bundle.Bundle` for `"bundle"`, otherwise the
            `Signature` of the file.

        Raises:
            ValueError: an unknown format, or an argument that the format does
                not take.
        """
        from keras_cascade.export.formats import export_as

        return export_as(
            format,
            self,
            filepath,
            verbose=verbose,
            calibration_data=calibration_data,
            example_inputs=example_inputs,
            class_names=class_names,
            batch_size=batch_size,
            overwrite=overwrite,
            allow_training_data=allow_training_data,
            quantization=quantization,
            training_data=training_data,
            optimization=optimization,
            onnx=onnx,
            operating_points=operating_points,
            joint=joint,
            float_layers=float_layers,
            part=part,
            input_shape=input_shape,
            io_type=io_type,
            input_type=input_type,
            targets=targets,
        )

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        task = {}
        if self.task != tasks.get(None):
            task = {"task": serialize(self.task)}
        return {
            **super().get_config(),
            **task,
            "teacher": serialized_model(self.teacher),
            "student": serialized_model(self.student),
            "distillation": serialize(self.distillation),
            "gate": serialize(self.gate),
            "costs": self.costs and dataclasses.asdict(self.costs),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Cascade:
        config = dict(config)
        names = ("teacher", "student", "distillation", "gate", "task")
        for name in (one for one in names if one in config):
            config[name] = keras.saving.deserialize_keras_object(config[name])
        return cls(**config)

    def save_assets(self, dir_path: str) -> None:
        """Writes the data record into the `.keras` file; Keras calls this."""
        self._data_record.save(dir_path)

    def load_assets(self, dir_path: str) -> None:
        """Reads what `save_assets` wrote; Keras calls this."""
        self._data_record.load(dir_path)

    # Shared by the above, and by `export`.

    def two_stage_pass(self) -> TwoStagePass:
        """`TwoStagePass` over the current student, gate and teacher."""
        parts = (self.teacher, self.student, self.gate, self.classes)
        if self._pass is None or not self._pass.is_of(*parts):
            self._pass = TwoStagePass(*parts)
        return self._pass

    def prepare(self, data: Any) -> LabelledData:
        """Builds and checks the models on the first inputs; counts costs.

        Later inputs are compared with those.

        Args:
            data: `LabelledData`, or inputs as `predict` takes them.

        Returns:
            `LabelledData`.
        """
        if not isinstance(data, LabelledData):
            data = LabelledData(data)
        thresholds = _class_thresholds(self)
        if thresholds != self._compiled_with:  # constants of the steps
            self._compiled_steps_are_stale()
            self.predict_function = None
            self._compiled_with = thresholds
        if self._prepared:
            check_same_form(
                self.student, data.x, self._data_record.example_inputs
            )
            if data.is_arrays:  # batches would be drawn twice
                self._data_record.see_inputs(data.first_rows())
            return data
        inputs = data.first_rows()
        check_inputs(inputs)
        self.classes = self._check_first_outputs(self._read_logits_on(inputs))
        self(inputs)
        if self.costs is None:
            self.costs = costs_from_flops(self.student, self.teacher, inputs)
        self._data_record.example_inputs = inputs
        self._data_record.see_inputs(inputs)
        self._prepared = True
        return data

    @contextlib.contextmanager
    def recovering(self) -> Iterator[None]:
        """Context in which an error leaves the variables their values."""
        try:
            yield
        except BaseException:
            steps.recover(self)
            raise

    def check_labels(self, labels: Any) -> None:
        """Raises at the first problem in a batch of labels.

        Args:
            labels: array, batch first, or `None`.

        Raises:
            ValueError: labels that are missing, or none of the task.
        """
        self.task.check_labels(labels, self.classes)

    def labelled(self, data: Any, batch_size: int | None = None) -> Any:
        """Returns `LabelledData` with the cascade's class indices as labels.

        Args:
            data: labelled examples, as `judge` takes them.
            batch_size: int, with arrays. Defaults to `32`.
        """
        return self._labelled(data, batch_size=batch_size)

    def _labelled(self, data, y=None, batch_size=None, class_names=None):
        data = LabelledData.from_argument(data, y, batch_size=batch_size)
        return self._with_indices(self.prepare(data), class_names)

    def _with_indices(self, data, class_names=None, strict=False):
        """Data with indices as labels, in the form that is known by now."""
        record = self._data_record
        record.see_class_names(class_names, self.classes)
        if not self.task.one_class_per_example:
            return data
        reader = LabelReader(
            self.classes, record.class_names, record.first_label
        )
        data = data.with_indices(reader, strict)
        record.first_label = reader.first
        return data

    def _check_task_takes(self, **arguments):
        """Raises at an argument that is about one class per example."""
        given = [name for name, one in arguments.items() if one is not None]
        if given and not self.task.one_class_per_example:
            raise ValueError(
                f"Expected no `{given[0]}` with {self.task!r}: it is about "
                "one class per example. Leave it out; `sample_weight` weights "
                "examples of every task."
            )

    def _cached_answers(self, cache):
        """Function from inputs to the teacher's answers, from a cache."""
        if self.task.one_class_per_example:
            return cache.answers
        return lambda x: self.two_stage_pass().answers(cache.logits(x))

    def _check_gate_has(self, method, remedy):
        if not hasattr(self.gate, method):
            other = f", or {remedy}"
            if not self.task.one_class_per_example:
                other = (
                    ", or override `score` of a subclass of "
                    f"{type(self.task).__name__}"
                )
            raise ValueError(
                f"Expected a gate with a method `{method}`. Received: "
                f"{type(self.gate).__name__}, which has none. Calibrate it as "
                f"it is{other}."
            )

    def _results_for_gate(
        self,
        data,
        y,
        batch_size,
        allow_training_data,
        traffic,
        teacher_logits=None,
    ):
        results = self.judge(
            data,
            y,
            batch_size,
            traffic,
            keep_outputs=True,
            teacher_logits=teacher_logits,
        )
        if not allow_training_data:
            self._data_record.refuse(results.examples, "training")
        return results

    def _gate_was_fitted(self, results):
        self._data_record.gate = results.examples
        self._data_record.forget_calibration()
        return self.gate


def _class_names(teacher, student):
    """List of the class names that the models bring, or `None`."""
    known = {}
    for role, model in (("the teacher", teacher), ("the student", student)):
        names = getattr(model, "class_names", None)
        if isinstance(model, Cascade):
            names = model.data_record.class_names
        if names is not None:
            known[role] = [str(name) for name in names]
    if len(known) == 2:
        (role, names), (other_role, other_names) = known.items()
        check_same_names(role, names, other_role, other_names)
    return next(iter(known.values()), None)


def _class_thresholds(cascade):
    """Thresholds per class of a cascade's gate and of its teacher's."""
    own = cascade.gate.class_thresholds
    teacher = cascade.teacher
    return own, _class_thresholds(teacher) if hasattr(teacher, "gate") else None
