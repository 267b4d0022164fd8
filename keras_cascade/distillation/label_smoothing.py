"""Label smoothing: smoothed labels for every example, no teacher."""

from typing import Any

import keras
from keras import ops

from keras_cascade.distillation.distillation_policy import (
    DistillationPolicy,
    label_smoothing_targets,
)
from keras_cascade.distillation.target_mixture import TargetMixture
from keras_cascade.utils.tensor_ops import Tensor
from keras_cascade.utils.validation import check_number


@keras.saving.register_keras_serializable("keras_cascade")
class LabelSmoothing(DistillationPolicy):
    """Trains every example on its smoothed label; the teacher does not run.

    `target = (1−α)·one_hot(y) + α/L`

    With α = 0 it is plain cross-entropy: the baseline that distillation is
    compared with. Smoothed labels keep a small student's confidence low where
    it has no reason for it, which helps a gate.

    Source: Szegedy et al., arXiv 1512.00567.

    Args:
        label_smoothing: float in [0, 1], α. Defaults to `0.6`.

    Example:

    >>> import keras
    >>> import keras_cascade as kc
    >>> policy = kc.distillation.LabelSmoothing(0.5)
    >>> targets = policy.targets([0], keras.ops.zeros((1, 2)))
    >>> keras.ops.convert_to_numpy(targets).tolist()
    [[0.75, 0.25]]
    """

    selective = False
    takes_top_k = True
    needs_teacher = False

    def __init__(self, label_smoothing: float = 0.6):
        self.label_smoothing = check_number(
            "label_smoothing", label_smoothing, 0, 1
        )

    def targets(self, labels: Tensor, teacher_logits: Tensor) -> Tensor:
        return label_smoothing_targets(
            labels, teacher_logits, self.label_smoothing
        )

    def selected(
        self,
        labels: Tensor,
        teacher_logits: Tensor,
        student_logits: Tensor | None = None,
    ) -> Tensor:
        """Mask of the examples that learn from the teacher: none."""
        return ops.zeros((ops.shape(labels)[0],), dtype="bool")

    def target_mixture(
        self, labels: Tensor, teacher_logits: Tensor
    ) -> TargetMixture:
        return TargetMixture(
            1.0 - self.label_smoothing, self.label_smoothing, 0.0
        )

    def get_config(self) -> dict[str, Any]:
        return {"label_smoothing": self.label_smoothing}
