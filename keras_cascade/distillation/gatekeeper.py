"""Gatekeeper: a fine-tuning stage for the student's confidence."""

import math
from typing import Any

import keras
from keras import ops

from keras_cascade.distillation.distillation_policy import (
    DistillationPolicy,
)
from keras_cascade.distillation.target_mixture import logits_of
from keras_cascade.utils.tensor_ops import Tensor, as_float, is_right
from keras_cascade.utils.validation import check_number


@keras.saving.register_keras_serializable("keras_cascade")
class Gatekeeper(DistillationPolicy):
    """Raises confidence on right answers and lowers it on wrong ones.

    `loss = α·1[ŷ = y]·CE(y, p_S) + (1−α)·1[ŷ ≠ y]·KL(p_S ‖ uniform)`, with
    the student's own prediction ŷ. A fine-tuning stage after distillation:

    ```python
    cascade.fit(x, y, epochs=10)
    cascade.distillation = keras_cascade.distillation.Gatekeeper(0.5)
    cascade.fit(x, y, epochs=2)
    ```

    It needs no teacher's logits and selects every example:
    `selected_fraction` is always 1.

    Source: Rabanser et al., arXiv 2502.19335.

    Args:
        alpha: float in [0, 1], α. High keeps accuracy; low makes the
            student's confidence a better gate. Defaults to `0.5`.

    Example:

    >>> import keras
    >>> import keras_cascade as kc
    >>> policy = kc.distillation.Gatekeeper(alpha=0.5)
    >>> logits = keras.ops.array([[0.0, 0.0]])
    >>> float(policy.example_loss([0], logits, logits)[0])
    0.346574
    """

    selective = False
    takes_top_k = True
    needs_teacher = False

    def __init__(self, alpha: float = 0.5):
        self.alpha = check_number("alpha", alpha, 0, 1)

    def example_loss(
        self, labels: Tensor, teacher_logits: Tensor, student_logits: Tensor
    ) -> Tensor:
        log_student = ops.log_softmax(as_float(student_logits), axis=-1)
        classes = log_student.shape[-1]
        cross_entropy = -logits_of(labels, log_student)
        negative_entropy = ops.sum(ops.exp(log_student) * log_student, axis=-1)
        divergence = negative_entropy + math.log(classes)
        return ops.where(
            is_right(log_student, labels),
            self.alpha * cross_entropy,
            (1.0 - self.alpha) * divergence,
        )

    def selected(
        self,
        labels: Tensor,
        teacher_logits: Tensor,
        student_logits: Tensor | None = None,
    ) -> Tensor:
        return ops.ones((ops.shape(labels)[0],), dtype="bool")

    def get_config(self) -> dict[str, Any]:
        return {"alpha": self.alpha}
