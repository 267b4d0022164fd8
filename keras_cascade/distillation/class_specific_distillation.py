"""Class-specific distillation: teacher targets for a subset of classes."""

from typing import Any

import keras
import numpy.typing as npt
from keras import ops

from keras_cascade.distillation.selective_distillation import (
    SelectiveDistillation,
)
from keras_cascade.utils.class_subset import check_classes, class_mask
from keras_cascade.utils.tensor_ops import Tensor


@keras.saving.register_keras_serializable("keras_cascade")
class ClassSpecificDistillation(SelectiveDistillation):
    """Teacher targets for in-domain examples, LS(α) for the others.

    An example is in-domain when its **true label** is one of
    `in_domain_classes`. With every class in-domain this is
    `StandardDistillation`.

    Source: arXiv 2110.10305, CD-I; the paper's α are 0, 0.4 and 0.6.

    Args:
        in_domain_classes: ints, the classes that the student is meant to
            handle. At least one, no repeats.
        temperature: float > 0, τ. Defaults to `1.0`.
        label_smoothing: float in [0, 1], α. Defaults to `0.0`.
        oracle: bool. Uses the label instead of the teacher's softmax. Defaults
            to `False`.

    Example:

    >>> import keras
    >>> import keras_cascade as kc
    >>> policy = kc.distillation.ClassSpecificDistillation([0, 1])
    >>> selected = policy.selected([0, 2], keras.ops.zeros((2, 3)))
    >>> keras.ops.convert_to_numpy(selected).tolist()
    [True, False]
    """

    takes_top_k = True
    needs_teacher = SelectiveDistillation.needs_teacher

    def __init__(
        self,
        in_domain_classes: npt.ArrayLike,
        temperature: float = 1.0,
        label_smoothing: float = 0.0,
        oracle: bool = False,
    ):
        super().__init__(temperature, label_smoothing, oracle)
        self.in_domain_classes = check_classes(in_domain_classes)

    def selected(
        self,
        labels: Tensor,
        teacher_logits: Tensor,
        student_logits: Tensor | None = None,
    ) -> Tensor:
        mask = class_mask(self.in_domain_classes, teacher_logits.shape[-1])
        return ops.take(mask, labels, axis=0)

    def gate_defaults(self) -> dict[str, Any]:
        return {"in_domain_classes": self.in_domain_classes}

    def get_config(self) -> dict[str, Any]:
        return {
            "in_domain_classes": self.in_domain_classes,
            **super().get_config(),
        }
