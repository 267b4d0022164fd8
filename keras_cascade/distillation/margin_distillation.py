"""Margin distillation: teacher targets where the teacher is sure."""

from typing import Any

import keras
from keras import ops

from keras_cascade.distillation.selective_distillation import (
    SelectiveDistillation,
)
from keras_cascade.utils.tensor_ops import Tensor, as_float, softmax_margin
from keras_cascade.utils.validation import check_number


@keras.saving.register_keras_serializable("keras_cascade")
class MarginDistillation(SelectiveDistillation):
    """Teacher targets where the teacher's margin is large, LS(α) elsewhere.

    An example is selected when the teacher's margin (top-1 minus top-2
    softmax probability, at temperature 1) is **strictly** above `threshold`.

    Source: arXiv 2110.10305, margin-based selection; Figure 7 uses
    ρ = 0.4 and 0.6.

    A teacher is overconfident on its own training data. When nearly every
    margin is close to 1 the policy selects everything; `fit` then warns.

    Args:
        threshold: float in [0, 1], ρ. Defaults to `0.4`.
        temperature: float > 0, τ. Defaults to `1.0`.
        label_smoothing: float in [0, 1], α. Defaults to `0.0`.
        oracle: bool. Uses the label instead of the teacher's softmax; every
            margin is then 1. Defaults to `False`.

    Example:

    >>> import keras
    >>> import keras_cascade as kc
    >>> policy = kc.distillation.MarginDistillation(threshold=0.4)
    >>> logits = keras.ops.array([[2.0, 0.0], [0.1, 0.0]])
    >>> keras.ops.convert_to_numpy(policy.selected([0, 0], logits)).tolist()
    [True, False]
    """

    takes_top_k = True
    needs_teacher = SelectiveDistillation.needs_teacher

    def __init__(
        self,
        threshold: float = 0.4,
        temperature: float = 1.0,
        label_smoothing: float = 0.0,
        oracle: bool = False,
    ):
        super().__init__(temperature, label_smoothing, oracle)
        self.threshold = check_number("threshold", threshold, 0, 1)

    def selected(
        self,
        labels: Tensor,
        teacher_logits: Tensor,
        student_logits: Tensor | None = None,
    ) -> Tensor:
        margin = softmax_margin(as_float(teacher_logits))
        if self.oracle:
            margin = ops.ones_like(margin)
        return margin > self.threshold

    def gate_defaults(self) -> dict[str, Any]:
        return {"margin": self.threshold}

    def get_config(self) -> dict[str, Any]:
        return {"threshold": self.threshold, **super().get_config()}
