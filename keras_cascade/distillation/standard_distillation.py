"""Standard distillation: teacher targets for every example."""

from typing import Any

import keras
from keras import ops

from keras_cascade.distillation.distillation_policy import (
    DistillationPolicy,
    check_temperature,
    cross_entropy,
    label_smoothing_targets,
    teacher_targets,
)
from keras_cascade.distillation.target_mixture import TargetMixture
from keras_cascade.utils.tensor_ops import Tensor, as_float
from keras_cascade.utils.top_k_logits import TopKLogits
from keras_cascade.utils.validation import check_number


@keras.saving.register_keras_serializable("keras_cascade")
class StandardDistillation(DistillationPolicy):
    """Trains every example on a mix of its label and the teacher's softmax.

    `target = a·one_hot(y) + (1−a)·softmax(teacher_logits / τ)`

    Source: Hinton et al., arXiv 1503.02531. The student's softmax stays at
    temperature 1.

    Args:
        temperature: float > 0, τ. Defaults to `1.0`.
        student_loss_weight: float in [0, 1], a: how much the label counts.
            Defaults to `0.0`.
        scale_by_temperature_squared: bool. Multiplies the teacher's part of
            the loss by τ², which keeps its gradient's size as τ grows.
            Defaults to `False`.
        oracle: bool. Uses the label instead of the teacher's softmax, for data
            without a teacher's logits. Defaults to `False`.

    Example:

    >>> import keras
    >>> import keras_cascade as kc
    >>> policy = kc.distillation.StandardDistillation(temperature=2.0)
    >>> targets = policy.targets([0], keras.ops.array([[2.0, 0.0]]))
    >>> float(targets[0, 0])
    0.731059
    """

    selective = False
    takes_top_k = True

    def __init__(
        self,
        temperature: float = 1.0,
        student_loss_weight: float = 0.0,
        scale_by_temperature_squared: bool = False,
        oracle: bool = False,
    ):
        self.temperature = check_temperature(temperature)
        self.student_loss_weight = check_number(
            "student_loss_weight", student_loss_weight, 0, 1
        )
        self.scale_by_temperature_squared = bool(scale_by_temperature_squared)
        self.oracle = bool(oracle)

    @property
    def needs_teacher(self) -> bool:
        """False where the labels alone are the target."""
        return not self.oracle and self.student_loss_weight < 1

    def targets(self, labels: Tensor, teacher_logits: Tensor) -> Tensor:
        from_teacher = self._teacher_targets(labels, teacher_logits)
        if self.student_loss_weight == 0.0:
            return from_teacher
        from_label = label_smoothing_targets(labels, teacher_logits, 0.0)
        a = self.student_loss_weight
        return a * from_label + (1.0 - a) * from_teacher

    def selected(
        self,
        labels: Tensor,
        teacher_logits: Tensor,
        student_logits: Tensor | None = None,
    ) -> Tensor:
        return ops.ones((ops.shape(labels)[0],), dtype="bool")

    def example_loss(
        self, labels: Tensor, teacher_logits: Tensor, student_logits: Tensor
    ) -> Tensor:
        compact = isinstance(teacher_logits, TopKLogits)
        if compact or not self.scale_by_temperature_squared:
            return super().example_loss(labels, teacher_logits, student_logits)
        teacher_logits = as_float(teacher_logits)
        a = self.student_loss_weight
        teacher_loss = cross_entropy(
            self._teacher_targets(labels, teacher_logits), student_logits
        )
        label_loss = cross_entropy(
            label_smoothing_targets(labels, teacher_logits, 0.0),
            student_logits,
        )
        scale = self.temperature**2
        return a * label_loss + (1.0 - a) * scale * teacher_loss

    def target_mixture(
        self, labels: Tensor, teacher_logits: Tensor
    ) -> TargetMixture:
        a = self.student_loss_weight
        teacher = 1.0 - a
        if self.scale_by_temperature_squared:
            teacher *= self.temperature**2
        if self.oracle:
            return TargetMixture(label=a + teacher, teacher=0.0)
        return TargetMixture(a, 0.0, teacher, self.temperature)

    def _teacher_targets(self, labels, teacher_logits):
        return teacher_targets(
            labels, teacher_logits, self.temperature, self.oracle
        )

    def get_config(self) -> dict[str, Any]:
        return {
            "temperature": self.temperature,
            "student_loss_weight": self.student_loss_weight,
            "scale_by_temperature_squared": self.scale_by_temperature_squared,
            "oracle": self.oracle,
        }
