"""Selective distillation as a Keras training step, the teacher frozen."""

from typing import TYPE_CHECKING, Any, cast

import keras
from keras import ops

from keras_cascade import distillation as distillation_policies
from keras_cascade import gates, steps, tasks
from keras_cascade.distillation.distillation_policy import (
    logits_for,
    teacher_is_needed,
)
from keras_cascade.feature_extractors import FeatureExtractors
from keras_cascade.metrics import DeferralMetric
from keras_cascade.model_checks import (
    check_first_outputs,
    check_models,
    check_outputs,
    check_roles,
    check_takes_texts,
)
from keras_cascade.models.logits_model import (
    logits_model,
    logits_model_on,
    outputs_model,
)
from keras_cascade.teacher_logits.cached_data import split_cached
from keras_cascade.teachers.teacher_model import TeacherModel, as_keras_teacher
from keras_cascade.utils.tensor_ops import (
    MANY_CLASSES,
    Tensor,
    as_float,
    is_right,
    mean_weighted_loss,
)
from keras_cascade.utils.top_k_logits import TopKLogits

if TYPE_CHECKING:
    from keras_cascade.distillation import DistillationPolicy
    from keras_cascade.evaluation.costs import Costs

METRICS = (
    "student_accuracy",
    "teacher_accuracy",
    "cascade_accuracy",
    "delegation_rate",
    "selected_fraction",
    "amortized_cost",
)


#: Logit of the label where the teacher gave no answer, above the others' 0.
SURE = 100.0

#: Metrics that need the gate's scores.
GATE_METRICS = ("cascade_accuracy", "delegation_rate", "amortized_cost")

#: Metrics that need the teacher's answers.
TEACHER_METRICS = {"teacher_accuracy", "cascade_accuracy"}

#: From a cache of top-k logits of more than `MANY_CLASSES`, the gate scores
#: every eighth row of a training batch: on all of them it took a third of the
#: step. Metrics of validation and `evaluate` are of every row.
GATED_ROWS = 8

JAX_STATE = (
    "trainable_variables",
    "non_trainable_variables",
    "optimizer_variables",
    "metrics_variables",
)


class SelectiveTrainer(keras.Model):
    """Base class of `Cascade`: trains the student, keeps the teacher frozen.

    Args:
        teacher: `keras.Model`, a classifier; a model whose call returns a
            dict with `logits`; or what `keras_cascade.teachers.get` takes.
        student: `keras.Model` from the same inputs to the same classes.
        distillation: name, dict or `DistillationPolicy`.
        gate: name, dict or `Gate`.
        costs: `Costs`, dict or `None`.
        task: name, dict or `Task`.
        **kwargs: of `keras.Model`.
    """

    def __init__(
        self,
        teacher: Any,
        student: keras.Model,
        distillation: "str | dict | DistillationPolicy | None",
        gate: "str | dict | gates.Gate | None",
        costs: "Costs | None",
        task: "str | dict | tasks.Task | None" = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # Both models get the inputs as they are, whatever the global policy.
        self.autocast = False
        self.task = tasks.get(task)
        self._policy = self._policy_of(distillation)
        if self.task.one_class_per_example:
            teacher = logits_model(as_keras_teacher(teacher))
            student = logits_model(student)
            self.classes = check_models(teacher, student, self._policy)
            self.gate = gates.get(gate, **self._policy.gate_defaults())
        else:
            check_roles(teacher, student)
            teacher, student = (
                outputs_model(model, self.task.activation)
                for model in (teacher, student)
            )
            self.classes = self._size_of_outputs(teacher, student)
            self.gate = self._task_gate(gate)
        if self.classes is not None:
            self.task.check_classes(self.classes)
        self.teacher = teacher
        self.student = student
        self.costs = costs
        self._features = FeatureExtractors(teacher, student)
        self._deferral_metrics: list[DeferralMetric] = []
        for name in METRICS:
            setattr(self, f"_{name}", keras.metrics.Mean(name=name))
        if teacher.built and student.built:
            self.built = True

    @property
    def distillation(self) -> "DistillationPolicy":
        """The distillation policy. Set another, and `fit` goes on with it."""
        return self._policy

    @distillation.setter
    def distillation(
        self, identifier: "str | dict | DistillationPolicy | None"
    ) -> None:
        self._policy = self._policy_of(identifier)
        self._compiled_steps_are_stale()

    @property
    def costs(self) -> "Costs | None":
        """`Costs` of one example, or `None` until data is first seen."""
        return self._costs

    @costs.setter
    def costs(self, costs: "Costs | None") -> None:
        self._costs = costs
        self._compiled_steps_are_stale()

    def call(self, inputs: Any, training: bool = False) -> dict[str, Tensor]:
        return self.with_answer(
            {
                **self.teacher_outputs(inputs, training=training),
                **self.student_outputs(inputs, training=training),
            }
        )

    def compile(
        self,
        optimizer: str | dict | keras.optimizers.Optimizer = "adam",
        loss: None = None,
        loss_weights: None = None,
        metrics: list | dict | None = None,
        weighted_metrics: list | dict | None = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: str | bool = "auto",
        auto_scale_loss: bool = True,
    ) -> None:
        """Configures training, as `keras.Model.compile` does.

        Args:
            optimizer: of `keras.Model.compile`. Defaults to `"adam"`.
            loss: must stay `None`: the distillation policy is the loss.
            loss_weights: must stay `None`.
            metrics: of `keras.Model.compile`; computed on the student's
                logits, or, of another task than classes, on its answers. A
                `keras_cascade.metrics.DeferralMetric` in the list is computed
                on the gate's scores. Defaults to `None`.
            weighted_metrics: as `metrics`. Defaults to `None`.
            run_eagerly: of `keras.Model.compile`. Defaults to `False`.
            steps_per_execution: of `keras.Model.compile`. Defaults to `1`.
            jit_compile: of `keras.Model.compile`. Defaults to `"auto"`.
            auto_scale_loss: of `keras.Model.compile`. Defaults to `True`.

        Raises:
            ValueError: a loss was given.
        """
        if loss is not None or loss_weights is not None:
            raise ValueError(
                "A cascade's loss is its distillation policy. Expected: "
                "`compile` without `loss`, such as `compile('adam', "
                "metrics=['accuracy'])`. To weight the labels in, pass "
                "`distillation=StandardDistillation(student_loss_weight=...)`."
            )
        listed = metrics if isinstance(metrics, (list, tuple)) else [metrics]
        of_curve = [m for m in listed if isinstance(m, DeferralMetric)]
        if of_curve:
            metrics = [m for m in listed if m not in of_curve] or None
        self._deferral_metrics.clear()  # or Keras would go on tracking them
        self._deferral_metrics.extend(of_curve)
        super().compile(
            optimizer=optimizer,
            metrics=metrics,
            weighted_metrics=weighted_metrics,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            jit_compile=jit_compile,
            auto_scale_loss=auto_scale_loss,
        )

    def get_compile_config(self) -> dict[str, Any] | None:
        """Compile configuration for saving; Keras calls this."""
        config = super().get_compile_config()
        if config:
            config["optimizer_built"] = self.optimizer.built
            config["deferral_metrics"] = keras.saving.serialize_keras_object(
                list(self._deferral_metrics)
            )
        return config

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles a loaded model so that `fit` goes on; Keras calls this."""
        # An optimizer that never made a step has no variables in the file.
        made_steps = config.pop("optimizer_built", True)
        config = keras.saving.deserialize_keras_object(config)
        of_curve = config.pop("deferral_metrics", None)
        if of_curve:
            metrics = config.get("metrics") or []
            listed = metrics if isinstance(metrics, list) else [metrics]
            config["metrics"] = [*listed, *of_curve]
        self.compile(**config)
        if self.built and made_steps:
            self.optimizer.build(self.trainable_variables)

    def compute_loss(
        self,
        x: Any = None,
        y: Tensor = None,
        y_pred: Any = None,
        sample_weight: Tensor | None = None,
        training: bool = True,
    ) -> Tensor:
        """Weighted loss of the policy, divided by the number of examples."""
        args = self._policy_args(y, y_pred)
        loss = mean_weighted_loss(
            self._policy.example_loss(*args),
            self._example_weights(args, sample_weight),
        )
        loss = loss + self._policy.batch_loss(
            y_pred.get("teacher_features"), y_pred.get("student_features")
        )
        for penalty in self.student.losses:
            loss = loss + ops.cast(ops.sum(penalty), loss.dtype)
        return loss

    def compute_metrics(
        self,
        x: Any,
        y: Tensor,
        y_pred: dict[str, Any],
        sample_weight: Tensor | None = None,
    ) -> dict[str, Any]:
        """Updates the cascade's metrics and those given to `compile`."""
        args = self._policy_args(y, y_pred)
        every = self._gated_rows(y_pred)
        student_right = self._right(y_pred["student_logits"], args[0])
        answered = delegated = y_pred["delegated"]
        values = {
            "student_accuracy": student_right,
            "delegation_rate": delegated,
            "selected_fraction": self._policy.selected(*args),
        }
        has_teacher = "teacher_logits" in y_pred
        if has_teacher:
            teacher_right = self._right(args[1], args[0])
            if "teacher_answered" in y_pred:
                teacher_right &= y_pred["teacher_answered"]
                answered = delegated & _every(every, y_pred["teacher_answered"])
            values["teacher_accuracy"] = teacher_right
            values["cascade_accuracy"] = ops.where(
                answered,
                _every(every, teacher_right),
                _every(every, student_right),
            )
        values = {k: ops.cast(v, "float32") for k, v in values.items()}
        if self.costs is not None:
            values["amortized_cost"] = self.costs.amortized(
                values["delegation_rate"]
            )
        for name, value in values.items():
            metric = getattr(self, f"_{name}")
            weight = sample_weight
            if name in GATE_METRICS and weight is not None:
                weight = _every(every, weight)
            metric.update_state(value, sample_weight=weight)
        for metric in self._deferral_metrics if has_teacher else ():
            metric.update_state(
                y_pred["score"],
                _every(every, values["student_accuracy"]),
                _every(every, values["teacher_accuracy"]),
                None if sample_weight is None else _every(every, sample_weight),
            )
        student = y_pred["student_logits"]
        if not self.task.one_class_per_example:
            student = self.task.answers(student)
        logs = super().compute_metrics(x, y, student, sample_weight)
        if has_teacher:
            return logs
        unknown = {m.name for m in self._deferral_metrics} | TEACHER_METRICS
        return {n: value for n, value in logs.items() if n not in unknown}

    def update_metrics(
        self,
        loss: Tensor,
        x: Any,
        y: Tensor,
        y_pred: dict[str, Any],
        sample_weight: Tensor | None,
    ) -> dict[str, Any]:
        """Updates the loss by the batch's size, and every metric."""
        examples = ops.shape(y_pred["student_outputs"])[0]
        self._loss_tracker.update_state(
            loss, sample_weight=ops.cast(examples, "float32")
        )
        return self.compute_metrics(x, y, y_pred, sample_weight)

    def train_step(self, *args: Any) -> Any:
        """Runs one optimizer step on the student.

        Args:
            *args: `data` on TensorFlow; `state, data` on JAX.
        """
        return steps.train_step(self, *args)

    def test_step(self, *args: Any) -> Any:
        """Runs one batch of `evaluate`.

        Args:
            *args: `data` on TensorFlow; `state, data` on JAX.
        """
        return steps.test_step(self, *args)

    def _get_jax_state(self, **kwargs):
        """Values of the variables, which Keras takes for a JAX epoch.

        It lets `jax_state_sync` give them back from the second step on; from
        here on an error in the very first batch loses nothing either.
        """
        state = super()._get_jax_state(**kwargs)
        names = [name for name in JAX_STATE if kwargs.get(name)]
        self._jax_state = dict(zip(names, state, strict=True))
        return state

    # The teacher is frozen, and stays the user's: its own `trainable` flags
    # are not touched, its variables are only left out of the lists.

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        return self._without_teacher(super().trainable_variables)

    @property
    def trainable_weights(self) -> list[keras.Variable]:
        return self._without_teacher(super().trainable_weights)

    @property
    def non_trainable_variables(self) -> list[keras.Variable]:
        return _others(self.variables, self.trainable_variables)

    @property
    def non_trainable_weights(self) -> list[keras.Variable]:
        return _others(self.weights, self.trainable_weights)

    def teacher_outputs(self, x: Any, training: bool = False) -> dict[str, Any]:
        """Teacher logits, computed or cached, and requested features.

        Empty in training where the policy needs no teacher.
        """
        inputs, cached = split_cached(x)
        if training and cached is None and not teacher_is_needed(self._policy):
            return {}
        layers = self._policy.teacher_layers
        if cached is not None:
            if layers:
                raise ValueError(
                    "Feature distillation needs the teacher's layers "
                    f"{layers}, and a cache holds its logits only. Train "
                    "without cached logits."
                )
            if isinstance(cached, dict):  # the k largest, see `TopKLogits`
                return self._with_gaps(cached)
            return self._with_gaps(ops.stop_gradient(as_float(cached)))
        logits, features = self._features.teacher(inputs, layers, False)
        outputs = self._with_gaps(ops.stop_gradient(as_float(logits)))
        if layers:
            outputs["teacher_features"] = features
        return outputs

    def student_outputs(self, x: Any, training: bool) -> dict[str, Any]:
        """Student outputs and requested features, in one forward pass."""
        inputs, _ = split_cached(x)
        layers = dict.fromkeys(
            (*self._policy.student_layers, *self.gate.student_layers)
        )
        logits, features = self._features.student(inputs, layers, training)
        outputs = {"student_outputs": as_float(logits)}
        if layers:
            outputs["student_features"] = features
        return outputs

    def with_answer(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """Adds the gate's decision and the cascade's answer to the outputs.

        From the k largest teacher logits of a cache there is no answer over
        all classes, and training needs none; of many classes there are
        `score` and `delegated` of every `GATED_ROWS`-th row. Without a
        teacher's logits there is no answer either.
        """
        teacher = outputs.get("teacher_logits")
        compact = teacher is None or isinstance(teacher, dict)
        student = self.gate.class_logits(
            outputs["student_outputs"],
            self.classes if compact else cast("Tensor", teacher).shape[-1],
        )
        every = self._gated_rows(outputs)
        features = {
            name: _every(every, outputs["student_features"][name])
            for name in self.gate.student_layers
        }
        score = self.gate(
            _every(every, outputs["student_outputs"]), features or None
        )
        shares = None
        if self.gate.takes_probabilities:
            shares = self.gate.answers(_every(every, student))
        delegated = self.gate.decide(score, shares)
        outputs = {
            **outputs,
            "score": score,
            "delegated": delegated,
            "student_logits": student,
        }
        if compact:
            return outputs
        answered = outputs.get("teacher_answered", True) & delegated
        each = ops.reshape(answered, (-1, *(1,) * (len(student.shape) - 1)))
        logits = ops.where(each, teacher, student)
        return {
            **outputs,
            self.gate.answer_name: self.gate.answers(logits),
            "logits": logits,
        }

    def _policy_of(self, identifier):
        policy = distillation_policies.get(identifier)
        if self.task.one_class_per_example:
            return policy
        return tasks.TaskDistillation.of_policy(self.task, policy)

    def _task_gate(self, gate):
        if gate is None:
            return tasks.TaskGate(self.task)
        if isinstance(gate, dict):
            gate = gates.get(gate)
        if not isinstance(gate, tasks.TaskGate) or gate.task != self.task:
            raise ValueError(
                f"Expected no `gate` with {self.task!r}, or a `TaskGate` of "
                f"the same task. Received: {gate!r}, which scores one class "
                "per example."
            )
        return gate

    def _size_of_outputs(self, *models):
        """Size of the teacher's outputs; `None` while it is not known."""
        shapes = [
            getattr(model, "output_shape", None)
            if getattr(model, "inputs", None) is not None
            else None
            for model in models
        ]
        if not all(isinstance(shape, tuple) for shape in shapes):
            return None
        return self.task.check_shapes(*shapes)

    def _check_first_outputs(self, outputs):
        """Number of classes, or size of the outputs, of the first outputs."""
        if self.task.one_class_per_example:
            classes = check_first_outputs(outputs, self.distillation)
            self.task.check_classes(classes)
            return classes
        shapes = []
        for role, values in outputs.items():
            if isinstance(values, dict) and "logits" in values:  # a cascade
                values = values["logits"]
            shapes.append(check_outputs(role, values, self.task.activation))
        return self.task.check_shapes(*shapes)

    def _right(self, logits, labels):
        """Correctness of answers; of other tasks, `1 - loss`."""
        if self.task.one_class_per_example:
            return is_right(logits, labels)
        return self.task.quality(labels, self.task.answers(as_float(logits)))

    def _read_logits_on(self, inputs):
        """Runs both models; replaces one whose outputs are no logits.

        Args:
            inputs: a batch of inputs.

        Returns:
            Dict of `"teacher"` and `"student"` to their logits.
        """
        if not self.task.one_class_per_example:
            return {
                role: getattr(self, role)(inputs)
                for role in ("teacher", "student")
            }
        logits, changed = {}, False
        for role in ("teacher", "student"):
            model = getattr(self, role)
            check_takes_texts(role, model, inputs)
            if isinstance(model, TeacherModel):  # checks its own answers
                answers = as_float(model(inputs))
                logits[role] = self._with_gaps(answers)["teacher_logits"]
                continue
            read, logits[role] = logits_model_on(role, model, inputs)
            if read is not model:
                # Layers are saved in the order in which they are tracked,
                # which is that of the constructor when the file is read.
                self._tracker.replace_tracked_value("layers", model, read)
                setattr(self, role, read)
                changed = True
        if changed:
            self._features = FeatureExtractors(self.teacher, self.student)
            self._compiled_steps_are_stale()
        return logits

    def __setattr__(self, name: str, value: Any) -> None:
        """Attaches a teacher that is no Keras model where one was before.

        Compiled steps do not outlast their gate.
        """
        own = self.__dict__.get("teacher") if name == "teacher" else None
        if isinstance(own, TeacherModel) and not isinstance(value, keras.Model):
            own.attach(value)
        else:
            super().__setattr__(name, value)
        if name == "gate" and "train_function" in self.__dict__:
            self._compiled_steps_are_stale()
            self.predict_function = None

    def _with_gaps(self, logits):
        """Outputs of the teacher; of one that may give no answer, which."""
        if not isinstance(self.teacher, TeacherModel):
            return {"teacher_logits": logits}
        if isinstance(logits, dict):  # the k largest
            answered = _has_answer(logits["logits"])
            known = {
                "classes": logits["classes"],
                "logits": ops.where(answered[:, None], logits["logits"], 0.0),
                "rest": ops.where(answered, logits["rest"], 0.0),
            }
        else:
            answered = _has_answer(logits)
            known = ops.where(answered[:, None], logits, 0.0)
        return {"teacher_logits": known, "teacher_answered": answered}

    def _compiled_steps_are_stale(self):
        self.train_function = None
        self.test_function = None

    def _example_weights(self, args, sample_weight):
        own = self._policy.example_weight(*args)
        if own is None or sample_weight is None:
            return sample_weight if own is None else own
        return own * ops.cast(ops.reshape(sample_weight, (-1,)), own.dtype)

    def _gated_rows(self, outputs):
        """Distance of the rows that the gate scores: 1 for every row."""
        compact = isinstance(outputs.get("teacher_logits"), dict)
        return GATED_ROWS if compact and self.classes > MANY_CLASSES else 1

    def _policy_args(self, y, y_pred):
        """Labels, teacher logits and student outputs for the policy."""
        labels = y
        if self.task.one_class_per_example:
            labels = ops.cast(ops.reshape(y, (-1,)), "int32")
        teacher = y_pred.get("teacher_logits")
        if teacher is None:  # nobody looks at it, but for its shape
            teacher = ops.zeros((ops.shape(labels)[0], self.classes))
        if "teacher_answered" in y_pred:
            answered = y_pred["teacher_answered"]
            teacher = _without_gaps(teacher, answered, labels)
        if isinstance(teacher, dict):
            teacher = TopKLogits(**teacher, size=self.classes)
            teacher = logits_for(self._policy, teacher)
        return labels, teacher, y_pred["student_outputs"]

    def _without_teacher(self, variables):
        return _others(variables, self.teacher.variables)


def _has_answer(logits):
    return ops.logical_not(ops.any(ops.isnan(logits), axis=-1))


def _without_gaps(logits, answered, labels):
    """Teacher logits in which the label stands for a missing answer."""
    if isinstance(logits, dict):  # the k largest
        own = logits["classes"] == labels[:, None]
        listed = ops.any(own, axis=1, keepdims=True)
        first = ops.arange(own.shape[1])[None] == 0
        classes = ops.where(
            ops.logical_or(listed, ops.logical_not(first)),
            logits["classes"],
            labels[:, None],
        )
        classes = ops.where(answered[:, None], logits["classes"], classes)
        certain = SURE * ops.cast(classes == labels[:, None], "float32")
        return {
            "logits": ops.where(answered[:, None], logits["logits"], certain),
            "classes": classes,
            "rest": ops.where(answered, logits["rest"], 0.0),
        }
    # As good as one-hot in a softmax, at every temperature in use.
    certain = SURE * ops.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return ops.where(answered[:, None], logits, certain)


def _every(step, tensor):
    """Every `step`-th row of a tensor."""
    return tensor if step == 1 else tensor[::step]


def _others(variables, left_out):
    left_out = {id(v) for v in left_out}
    return [v for v in variables if id(v) not in left_out]
