"""Base class of policies that select some of the examples."""

from typing import Any

from keras import ops

from keras_cascade.distillation.distillation_policy import (
    DistillationPolicy,
    check_temperature,
    label_smoothing_targets,
    teacher_targets,
)
from keras_cascade.distillation.target_mixture import TargetMixture
from keras_cascade.utils.tensor_ops import Tensor
from keras_cascade.utils.validation import check_number


class SelectiveDistillation(DistillationPolicy):
    """Teacher targets for selected examples, smoothed labels for the others.

    `target = softmax(teacher_logits / τ)` where selected, else
    `LS(α) = (1−α)·one_hot(y) + α/L`.

    A subclass says which examples are `selected`.

    Args:
        temperature: float > 0, τ. Defaults to `1.0`.
        label_smoothing: float in [0, 1], α. 0 gives plain one-hot targets to
            the examples that are not selected; 1 tells the student nothing
            about them. Defaults to `0.0`.
        oracle: bool. Uses the label instead of the teacher's softmax, for data
            without a teacher's logits. Defaults to `False`.
    """

    takes_top_k = True

    def __init__(
        self,
        temperature: float = 1.0,
        label_smoothing: float = 0.0,
        oracle: bool = False,
    ):
        self.temperature = check_temperature(temperature)
        self.label_smoothing = check_number(
            "label_smoothing", label_smoothing, 0, 1
        )
        self.oracle = bool(oracle)

    @property
    def needs_teacher(self) -> bool:
        """False of an oracle, whose teacher is the labels."""
        return not self.oracle

    def targets(self, labels: Tensor, teacher_logits: Tensor) -> Tensor:
        selected = self.selected(labels, teacher_logits)
        return ops.where(
            selected[:, None],
            teacher_targets(
                labels, teacher_logits, self.temperature, self.oracle
            ),
            label_smoothing_targets(
                labels, teacher_logits, self.label_smoothing
            ),
        )

    def target_mixture(
        self, labels: Tensor, teacher_logits: Tensor
    ) -> TargetMixture:
        selected = ops.cast(self.selected(labels, teacher_logits), "float32")
        label = (1.0 - selected) * (1.0 - self.label_smoothing)
        uniform = (1.0 - selected) * self.label_smoothing
        if self.oracle:
            return TargetMixture(label + selected, uniform, 0.0)
        return TargetMixture(label, uniform, selected, self.temperature)

    def get_config(self) -> dict[str, Any]:
        return {
            "temperature": self.temperature,
            "label_smoothing": self.label_smoothing,
            "oracle": self.oracle,
        }
