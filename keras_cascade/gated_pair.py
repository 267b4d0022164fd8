"""A trained pair whose gate is set: results, fitted, calibrated."""

import numpy as np

from keras_cascade import calibration
from keras_cascade.data_record import DataRecord, warn_of_repeats
from keras_cascade.datasets import batches
from keras_cascade.datasets.input_checks import check_inputs, checked_batches
from keras_cascade.evaluation.flops import costs_from_flops
from keras_cascade.model_checks import (
    check_logits,
    check_same_classes,
    check_same_form,
    check_takes_texts,
)
from keras_cascade.prediction import TwoStagePass
from keras_cascade.selective_trainer import SelectiveTrainer
from keras_cascade.text.text_columns import as_text_arrays


class GatedPair(SelectiveTrainer):
    """Sets the gate of a student and a teacher; `Cascade`'s middle.

    Args:
        *args: of `SelectiveTrainer`.
        **kwargs: of `SelectiveTrainer`.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._data_record = DataRecord()
        self._pass = None
        self._prepared = False

    def judge(
        self,
        data,
        batch_size=None,
        traffic=None,
        keep_outputs=False,
        teacher_logits=None,
        spot_check=True,
    ):
        """Scores labelled examples, and says which model gets them right.

        Args:
            data: `(x, y)` or `(x, y, sample_weight)` arrays, or batches of
                those.
            batch_size: int, with arrays. Defaults to `32`.
            traffic: `TrafficMix`. Weighs the examples so that their classes
                count as often as they come in deployment. Defaults to `None`.
            keep_outputs: bool. Keeps what the gate looks at, for fitting a
                gate. Defaults to `False`.
            teacher_logits: `TeacherLogitsCache` of these examples. The
                teacher then does not run on them, which saves most of the
                time where many students of one teacher are scored. Defaults
                to `None`.
            spot_check: bool. Compares some cached logits with the live
                teacher first. Defaults to `True`.

        Returns:
            `keras_cascade.evaluation.ExampleResults`.

        Raises:
            ValueError: an example is not in the cache, or the cache is of
                another teacher.
        """
        x, y, weight = batches.arrays_or_batches(data)
        x = self.prepare(x)
        ask_teacher = None
        if teacher_logits is not None:
            teacher_logits.check_answers_for(self.teacher)
            ask_teacher = teacher_logits.probabilities
            if spot_check:
                inputs, x = batches.first_rows(x)
                teacher_logits.spot_check(
                    self.two_stage_pass().ask_teacher, inputs
                )
        results = self.two_stage_pass().score_examples(
            checked_batches(x, y, weight, batch_size, classes=self.classes),
            keep_outputs,
            ask_teacher,
        )
        return results if traffic is None else traffic.applied_to(results)

    def scores(self, x, batch_size=None):
        """The gate's scores. The teacher does not run.

        Args:
            x: of `keras.Model.predict`.
            batch_size: int, with arrays. Defaults to `32`.

        Returns:
            float32 array `(rows,)`; higher = surer.
        """
        run = self.two_stage_pass().run_student
        return np.concatenate(
            [
                run(batch)["score"]
                for batch, _, _ in checked_batches(
                    self.prepare(x), batch_size=batch_size
                )
            ]
        )

    def two_stage_pass(self):
        """`TwoStagePass` over the current student, gate and teacher."""
        parts = (self.teacher, self.student, self.gate, self.classes)
        if self._pass is None or self._pass.parts != parts:
            self._pass = TwoStagePass(*parts)
        return self._pass

    def fit_gate(
        self, data, batch_size=None, allow_training_data=False, traffic=None
    ):
        """Fits a gate that learns, such as `LearnedGate`.

        Comes after `fit` and before `calibrate`, with examples of its own.
        An earlier calibration no longer holds afterwards and is forgotten.

        Args:
            data: held-out labelled examples: `(x, y)` or
                `(x, y, sample_weight)` arrays, or batches of those.
            batch_size: int, with arrays. Defaults to `32`.
            allow_training_data: bool. Accepts examples that the student was
                trained on, where it is surer than elsewhere. Defaults to
                `False`.
            traffic: `TrafficMix`. Weighs the examples so that their classes
                count as often as they come in deployment. Defaults to `None`.

        Returns:
            The gate.

        Raises:
            ValueError: the gate has nothing to fit, the examples were
                trained on, or there is nothing to learn from them. The gate
                is then left as it was.
        """
        self._check_gate_has("fit", "use gate='learned'")
        results = self._results_for_gate(
            data, batch_size, allow_training_data, traffic
        )
        self.gate.fit(results)
        return self._gate_was_fitted(results)

    def fit_temperature(
        self, data, batch_size=None, allow_training_data=False, traffic=None
    ):
        """Fits the temperature of a gate that has one, such as `MarginGate`.

        Comes after `fit` and before `calibrate`, with examples of its own;
        takes and does what `fit_gate` does.

        Returns:
            The gate.
        """
        self._check_gate_has(
            "fit_temperature",
            "use gate='margin', 'max_probability', 'entropy' or 'energy'",
        )
        results = self._results_for_gate(
            data, batch_size, allow_training_data, traffic
        )
        self.gate.fit_temperature(
            results.student_outputs, results.labels, results.sample_weight
        )
        return self._gate_was_fitted(results)

    def calibrate(
        self,
        data,
        objective,
        batch_size=None,
        allow_training_data=False,
        traffic=None,
        seed=0,
        teacher_logits=None,
    ):
        """Sets the gate's threshold so that an objective is met.

        An objective with a confidence is a guarantee about new examples; one
        without describes these examples only.

        Args:
            data: held-out labelled examples: `(x, y)` or
                `(x, y, sample_weight)` arrays, or batches of those.
            objective: such as `keras_cascade.MaxAccuracyDrop(0.01,
                confidence=0.95)`; or a list of objectives, for the cheapest
                threshold that meets all.
            batch_size: int, with arrays. Defaults to `32`.
            allow_training_data: bool. Accepts examples that the student was
                trained on or the gate fitted on (or, with a confidence, that
                `fit` validated on), and with them numbers that are too good.
                Defaults to `False`.
            traffic: `TrafficMix`. Numbers and guarantees are for this traffic;
                a guarantee then rests on the examples that rejection to the mix
                leaves (`OperatingPoint.effective_examples`). Defaults to
                `None`.
            seed: int, of the rejection. Defaults to `0`.
            teacher_logits: `TeacherLogitsCache` of these examples, as `judge`
                takes it. Defaults to `None`.

        Returns:
            `OperatingPoint`; `cascade.operating_point` keeps it.

        Raises:
            ValueError: the examples were used before, are all of one class,
                or no threshold meets the objective. The threshold is then
                left as it was.
        """
        objective = calibration.get(objective)
        self.gate.check_ready()
        results = self.judge(
            data, batch_size, traffic, teacher_logits=teacher_logits
        )
        if not allow_training_data:
            # An epoch that was chosen on these examples breaks a guarantee; a
            # number that guarantees nothing only flatters a little.
            guaranteed = ("validation",) if objective.guarantees() else ()
            self._data_record.refuse(
                results.examples, "training", *guaranteed, "gate"
            )
        if objective.guarantees():
            warn_of_repeats(results.examples)
        point = calibration.calibrate(
            results, objective, self.costs, traffic, seed
        )
        self.gate.threshold = point.threshold
        self._data_record.calibrated(
            point, results.examples, data, traffic, seed
        )
        return point

    @property
    def threshold(self):
        """Delegate when `score < threshold`."""
        return self.gate.threshold

    @threshold.setter
    def threshold(self, value):
        self._data_record.forget_calibration()
        self._data_record.outdated = False
        self.gate.threshold = value

    @property
    def operating_point(self):
        """What `calibrate` found; `None` since a new threshold or `fit`."""
        point = self._data_record.operating_point
        if point is None or point.threshold != self.gate.threshold:
            return None
        return point

    @property
    def data_record(self):
        """`DataRecord`: which data was trained and calibrated on."""
        return self._data_record

    def prepare(self, x):
        """Looks at the first examples once: builds, checks, counts costs."""
        x = as_text_arrays(x)
        batches.check_not_empty(x)
        batches.check_batched(x)
        if self._prepared:
            check_same_form(self.student, x, self._data_record.example_inputs)
            return x
        inputs, x = batches.first_rows(x)
        check_inputs(inputs)
        sizes = {}
        for role, model in (
            ("teacher", self.teacher),
            ("student", self.student),
        ):
            check_takes_texts(role, model, inputs)
            logits = model(inputs, training=False)
            if isinstance(logits, dict):  # a cascade
                logits = logits["logits"]
            sizes[role] = check_logits(role, logits)
        self.classes = check_same_classes(sizes, self.distillation)
        self(inputs)
        if self.costs is None:
            self.costs = costs_from_flops(self.student, self.teacher, inputs)
        self._data_record.example_inputs = inputs
        self._prepared = True
        return x

    def _check_gate_has(self, method, remedy):
        if not hasattr(self.gate, method):
            raise ValueError(
                f"Expected a gate with a method `{method}`. Received: "
                f"{type(self.gate).__name__}, which has none. Calibrate it as "
                f"it is, or {remedy}."
            )

    def _results_for_gate(self, data, batch_size, allow_training_data, traffic):
        results = self.judge(data, batch_size, traffic, keep_outputs=True)
        if not allow_training_data:
            self._data_record.refuse(results.examples, "training")
        return results

    def _gate_was_fitted(self, results):
        self._data_record.gate = results.examples
        self._data_record.forget_calibration()
        return self.gate
