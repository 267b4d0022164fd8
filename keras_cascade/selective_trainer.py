"""How a cascade trains: the student learns, the teacher stays as it is."""

import keras
from keras import ops

from keras_cascade import distillation as distillation_policies
from keras_cascade import gates
from keras_cascade.datasets import batches
from keras_cascade.model_checks import check_models
from keras_cascade.tensor_ops import as_float, weighted_mean

METRICS = (
    "student_accuracy",
    "teacher_accuracy",
    "cascade_accuracy",
    "delegation_rate",
    "selected_fraction",
    "amortized_cost",
)


class SelectiveTrainer(keras.Model):
    """Trains a student by selective distillation; `Cascade`'s lower half.

    Args:
        teacher: `keras.Model` from inputs to logits `(batch, classes)`, or a
            model whose call returns a dict with `logits`.
        student: `keras.Model` from the same inputs to logits over the same
            classes.
        distillation: name, dict or `DistillationPolicy`.
        gate: name, dict or `Gate`.
        costs: `Costs`, dict or `None`.
        **kwargs: of `keras.Model`.
    """

    def __init__(self, teacher, student, distillation, gate, costs, **kwargs):
        super().__init__(**kwargs)
        self.classes = check_models(teacher, student)
        self.teacher = teacher
        self.student = student
        self.distillation = distillation_policies.get(distillation)
        self.gate = gates.get(gate, **self.distillation.gate_defaults())
        self.costs = costs
        for name in METRICS:
            setattr(self, f"_{name}", keras.metrics.Mean(name=name))
        if teacher.built and student.built:
            self.built = True

    def call(self, inputs, training=False):
        student_logits = self.student(inputs, training=training)
        return self._outputs(student_logits, self._teacher_logits(inputs))

    def compile(self, optimizer="adam", metrics=None, **kwargs):
        """Configures training, as `keras.Model.compile` does.

        Args:
            optimizer: of `keras.Model.compile`. Defaults to `"adam"`.
            metrics: of `keras.Model.compile`; they are given the student's
                logits. Defaults to `None`.
            **kwargs: of `keras.Model.compile`, without a loss: the
                distillation policy is the loss.
        """
        if kwargs.pop("loss", None) is not None:
            raise ValueError(
                "A cascade's loss is its distillation policy. Expected: "
                "`compile` without `loss`. To weigh the labels in, pass "
                "`distillation=StandardDistillation(student_loss_weight=...)`."
            )
        super().compile(optimizer=optimizer, metrics=metrics, **kwargs)

    def compile_from_config(self, config):
        """Keras calls this on loading, so that `fit` goes on."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        """The policy's loss, divided by the summed weight of the examples."""
        losses = self.distillation.example_loss(
            _flat_labels(y), y_pred["teacher_logits"], y_pred["student_logits"]
        )
        loss = weighted_mean(losses, sample_weight)
        for penalty in self.student.losses:
            loss = loss + ops.cast(ops.sum(penalty), loss.dtype)
        return loss

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Updates the cascade's metrics and those given to `compile`."""
        labels = _flat_labels(y)
        student_right = _is_right(y_pred["student_logits"], labels)
        teacher_right = _is_right(y_pred["teacher_logits"], labels)
        delegated = y_pred["delegated"]
        selected = self.distillation.selected(
            labels, as_float(y_pred["teacher_logits"])
        )
        values = {
            "student_accuracy": student_right,
            "teacher_accuracy": teacher_right,
            "cascade_accuracy": ops.where(
                delegated, teacher_right, student_right
            ),
            "delegation_rate": delegated,
            "selected_fraction": selected,
        }
        values = {k: ops.cast(v, "float32") for k, v in values.items()}
        if self.costs is not None:
            values["amortized_cost"] = self.costs.amortized(
                values["delegation_rate"]
            )
        for name, value in values.items():
            metric = getattr(self, f"_{name}")
            metric.update_state(value, sample_weight=sample_weight)
        return super().compute_metrics(
            x, y, y_pred["student_logits"], sample_weight
        )

    def train_step(self, data):
        """One optimizer step on the student (TensorFlow)."""
        import tensorflow as tf

        x, y, sample_weight = batches.unpack(data)
        # Outside the tape: nothing of the teacher is recorded.
        teacher_logits = self._teacher_logits(x)
        with tf.GradientTape() as tape:
            student_logits = self.student(x, training=True)
            y_pred = {
                "student_logits": student_logits,
                "teacher_logits": teacher_logits,
            }
            loss = self.compute_loss(x, y, y_pred, sample_weight)
            replicas = tf.distribute.get_strategy().num_replicas_in_sync
            scaled_loss = self.optimizer.scale_loss(loss / replicas)
        variables = self.trainable_variables
        gradients = tape.gradient(scaled_loss, variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        y_pred = self._outputs(student_logits, teacher_logits)
        return self._logged(loss, x, y, y_pred, sample_weight)

    def test_step(self, data):
        """One batch of `evaluate`: both models run on every row."""
        x, y, sample_weight = batches.unpack(data)
        y_pred = self(x, training=False)
        loss = self.compute_loss(x, y, y_pred, sample_weight, training=False)
        return self._logged(loss, x, y, y_pred, sample_weight)

    # The teacher is frozen, and stays the user's: its own `trainable` flags
    # are not touched, its variables are only left out of the lists.

    @property
    def trainable_variables(self):
        return self._without_teacher(super().trainable_variables)

    @property
    def trainable_weights(self):
        return self._without_teacher(super().trainable_weights)

    @property
    def non_trainable_variables(self):
        return _others(self.variables, self.trainable_variables)

    @property
    def non_trainable_weights(self):
        return _others(self.weights, self.trainable_weights)

    def _teacher_logits(self, inputs):
        outputs = self.teacher(inputs, training=False)
        logits = outputs["logits"] if isinstance(outputs, dict) else outputs
        return ops.stop_gradient(as_float(logits))

    def _outputs(self, student_logits, teacher_logits):
        student_logits = as_float(student_logits)
        score = self.gate(student_logits)
        delegated = self.gate.delegate(score)
        logits = ops.where(delegated[:, None], teacher_logits, student_logits)
        return {
            "probabilities": ops.softmax(logits, axis=-1),
            "score": score,
            "delegated": delegated,
            "logits": logits,
            "student_logits": student_logits,
            "teacher_logits": teacher_logits,
        }

    def _logged(self, loss, x, y, y_pred, sample_weight):
        weight = (
            ops.cast(ops.shape(y_pred["score"])[0], loss.dtype)
            if sample_weight is None
            else ops.sum(ops.cast(sample_weight, loss.dtype))
        )
        self._loss_tracker.update_state(loss, sample_weight=weight)
        return self.compute_metrics(x, y, y_pred, sample_weight)

    def _without_teacher(self, variables):
        return _others(variables, self.teacher.variables)


def _flat_labels(y):
    return ops.cast(ops.reshape(y, (-1,)), "int32")


def _is_right(logits, labels):
    return ops.equal(ops.cast(ops.argmax(logits, axis=-1), "int32"), labels)


def _others(variables, left_out):
    left_out = {id(v) for v in left_out}
    return [v for v in variables if id(v) not in left_out]
