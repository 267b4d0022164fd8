"""Cascade-aware distillation: leaves out what both models get wrong."""

import keras
from keras import ops

from keras_cascade.distillation.standard_distillation import (
    StandardDistillation,
)
from keras_cascade.utils.tensor_ops import Tensor, as_float, is_right


@keras.saving.register_keras_serializable("keras_cascade")
class CascadeAwareDistillation(StandardDistillation):
    """Standard distillation on examples that student or teacher gets right.

    `weight = 1[student right or teacher right]`; the target is that of
    `StandardDistillation`, with its arguments. An example that both models
    get wrong costs the cascade nothing to give up, so the student's capacity
    is not spent on it.

    Source: after Wang et al., arXiv 2406.00060 (cascade-aware training).

    Args:
        temperature: float > 0, τ. Defaults to `1.0`.
        student_loss_weight: float in [0, 1], how much the label counts.
            Defaults to `0.0`.
        scale_by_temperature_squared: bool, as in `StandardDistillation`.
            Defaults to `False`.
        oracle: bool. Uses the label instead of the teacher's softmax.
            Defaults to `False`.

    Example:

    >>> import keras
    >>> import keras_cascade as kc
    >>> policy = kc.distillation.CascadeAwareDistillation()
    >>> both = keras.ops.array([[1.0, 0.0], [1.0, 0.0]])
    >>> weight = policy.example_weight([0, 1], both, both)
    >>> keras.ops.convert_to_numpy(weight).tolist()
    [1.0, 0.0]
    """

    selective = True
    takes_top_k = True
    needs_teacher = True  # of an oracle too, for the weights

    def example_weight(
        self, labels: Tensor, teacher_logits: Tensor, student_logits: Tensor
    ) -> Tensor:
        useful = self.selected(labels, teacher_logits, student_logits)
        return ops.cast(useful, as_float(student_logits).dtype)

    def selected(
        self,
        labels: Tensor,
        teacher_logits: Tensor,
        student_logits: Tensor | None = None,
    ) -> Tensor:
        if student_logits is None:
            raise ValueError(
                "CascadeAwareDistillation selects by what the student gets "
                "right. Expected: `student_logits`. Received: None."
            )
        return ops.logical_or(
            is_right(teacher_logits, labels), is_right(student_logits, labels)
        )
