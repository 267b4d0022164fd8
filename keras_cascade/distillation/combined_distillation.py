"""Combination of a distillation policy with further losses."""

from collections.abc import Sequence
from typing import Any, cast

import keras
from keras import ops

from keras_cascade.distillation.distillation_policy import (
    DistillationPolicy,
    logits_for,
    teacher_is_needed,
)
from keras_cascade.utils.tensor_ops import Tensor, as_float
from keras_cascade.utils.top_k_logits import dense


@keras.saving.register_keras_serializable("keras_cascade")
class CombinedDistillation(DistillationPolicy):
    """Distillation policy plus weighted Keras losses.

    `loss = policy + Σ_i weight_i · loss_i`, where a `keras.losses.Loss` is
    taken of labels and student logits, example by example, and a
    `keras.distillation.DistillationLoss` of teacher and student outputs (or
    inner layers, for `FeatureDistillation`), over the whole batch: Keras
    gives it no sample weights. From a cache of the k largest logits such a
    loss gets all logits of a batch, the remaining mass spread evenly.

    Args:
        policy: name, dict or `DistillationPolicy`; it selects.
        losses: list of `keras.losses.Loss` (with `from_logits=True`) and
            `keras.distillation.DistillationLoss` objects.
        weights: list of floats, one per loss. Defaults to `None`: all 1.

    Example:

    >>> import keras
    >>> import keras_cascade as kc
    >>> policy = kc.distillation.CombinedDistillation(
    ...     "standard",
    ...     [keras.losses.SparseCategoricalCrossentropy(from_logits=True)],
    ... )
    >>> logits = keras.ops.zeros((1, 2))
    >>> float(policy.example_loss([0], logits, logits)[0])  # ln 2 + ln 2
    1.386294
    """

    takes_top_k = True

    def __init__(
        self,
        policy: str | dict | DistillationPolicy,
        losses: Sequence[Any],
        weights: Sequence[float] | None = None,
    ):
        from keras_cascade import distillation

        self.policy = distillation.get(policy)
        self.losses = [_checked(loss) for loss in losses]
        weights = [1.0] * len(self.losses) if weights is None else weights
        if len(weights) != len(self.losses):
            raise ValueError(
                f"Expected one weight a loss, {len(self.losses)}. Received: "
                f"{len(weights)}."
            )
        self.weights = [float(weight) for weight in weights]
        self.selective = self.policy.selective

    @property
    def needs_teacher(self) -> bool:
        """False where neither the policy nor a loss needs the teacher."""
        return teacher_is_needed(self.policy) or any(
            self._pairs(of_labels=False)
        )

    @property
    def teacher_layers(self) -> tuple[str, ...]:
        """Names of the teacher's inner layers that the losses compare."""
        return self._layers("teacher_layer_name")

    @property
    def student_layers(self) -> tuple[str, ...]:
        """Names of the student's inner layers that the losses compare."""
        return self._layers("student_layer_name")

    def example_loss(
        self, labels: Tensor, teacher_logits: Tensor, student_logits: Tensor
    ) -> Tensor:
        total = self.policy.example_loss(
            labels, logits_for(self.policy, teacher_logits), student_logits
        )
        student_logits = as_float(student_logits)
        for loss, weight in self._pairs(of_labels=True):
            total = total + weight * _of_labels(loss, labels, student_logits)
        for loss, weight in self._pairs(of_labels=False):
            if not getattr(loss, "student_layer_name", None):
                value = loss.compute_loss(dense(teacher_logits), student_logits)
                total = total + weight * ops.cast(value, total.dtype)
        return total

    def batch_loss(
        self,
        teacher_features: dict[str, Tensor] | None,
        student_features: dict[str, Tensor] | None,
    ) -> Tensor:
        total = 0.0
        for loss, weight in self._pairs(of_labels=False):
            if getattr(loss, "student_layer_name", None):
                # Such a loss names layers, so there are features.
                teacher = cast("dict[str, Tensor]", teacher_features)
                student = cast("dict[str, Tensor]", student_features)
                total = total + weight * loss.compute_loss(
                    teacher[loss.teacher_layer_name],
                    student[loss.student_layer_name],
                )
        return total

    def example_weight(
        self, labels: Tensor, teacher_logits: Tensor, student_logits: Tensor
    ) -> Tensor | None:
        return self.policy.example_weight(
            labels, logits_for(self.policy, teacher_logits), student_logits
        )

    def selected(
        self,
        labels: Tensor,
        teacher_logits: Tensor,
        student_logits: Tensor | None = None,
    ) -> Tensor:
        return self.policy.selected(
            labels, logits_for(self.policy, teacher_logits), student_logits
        )

    def student_outputs(self, classes: int) -> int:
        return self.policy.student_outputs(classes)

    def gate_defaults(self) -> dict[str, Any]:
        return self.policy.gate_defaults()

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            "policy": serialize(self.policy),
            "losses": [serialize(loss) for loss in self.losses],
            "weights": self.weights,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "CombinedDistillation":
        config = dict(config)
        config["losses"] = [
            keras.saving.deserialize_keras_object(loss)
            if isinstance(loss, dict)
            else loss
            for loss in config["losses"]
        ]
        return cls(**config)

    def _pairs(self, of_labels):
        for loss, weight in zip(self.losses, self.weights, strict=True):
            if isinstance(loss, keras.losses.Loss) == of_labels:
                yield loss, weight

    def _layers(self, attribute):
        names = [
            getattr(loss, attribute, None)
            for loss, _ in self._pairs(of_labels=False)
        ]
        return tuple(dict.fromkeys(name for name in names if name))


def _checked(loss):
    if isinstance(loss, keras.losses.Loss):
        if loss.get_config().get("from_logits") is False:
            raise ValueError(
                f"The student outputs logits. Expected: `{type(loss).__name__}"
                "(from_logits=True)`. Received: from_logits=False."
            )
        return loss
    if isinstance(loss, keras.distillation.LogitsDistillation):
        if not isinstance(loss.loss, keras.losses.Loss):
            # Keras 3.15's default resolves to a function that skips the
            # softmax and the temperature.
            raise ValueError(
                "Expected `LogitsDistillation(loss=keras.losses."
                "KLDivergence())`. Received it with a loss by name, which "
                "Keras applies to raw logits."
            )
        return loss
    if isinstance(loss, keras.distillation.DistillationLoss):
        return loss
    raise ValueError(
        "Expected `keras.losses.Loss` or `keras.distillation."
        f"DistillationLoss` objects. Received: {loss!r}."
    )


def _of_labels(loss, labels, logits):
    """Loss per example; labels are one-hot unless the loss is a sparse one."""
    if not type(loss).__name__.startswith("Sparse"):
        labels = ops.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return loss.call(ops.convert_to_tensor(labels), logits)
