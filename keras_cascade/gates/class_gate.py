"""Class gate: keeps predictions of in-domain classes."""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from keras_cascade.gates.gate import Gate
from keras_cascade.utils.class_subset import check_classes, class_mask
from keras_cascade.utils.tensor_ops import Tensor


@keras.saving.register_keras_serializable("keras_cascade")
class ClassGate(Gate):
    """Scores an example by its best in-domain logit minus its best other one.

    `score = max in-domain logit − max other logit`, so that at threshold 0
    an example is kept if and only if the student's class is in-domain.

    Source: arXiv 2110.10305, class-based delegation.

    Args:
        in_domain_classes: ints, the classes that the student is meant to
            handle. Made by name, the gate takes those of
            `ClassSpecificDistillation`.
        threshold: float. Defaults to `0.0`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        logits: float tensor of shape `(batch, classes)`. At least one class
            must be outside `in_domain_classes`.

    Returns:
        Float tensor of shape `(batch,)`. Higher is surer.

    Example:

    >>> import keras
    >>> import keras_cascade as kc
    >>> gate = kc.gates.ClassGate([0, 1])
    >>> float(gate(keras.ops.array([[2.0, 0.0, 0.5]]))[0])
    1.5
    """

    takes_defaults = {"in_domain_classes": "in_domain_classes"}

    def __init__(
        self,
        in_domain_classes: npt.ArrayLike,
        threshold: float | None = None,
        **kwargs: Any,
    ):
        super().__init__(threshold=threshold, **kwargs)
        self.in_domain_classes = check_classes(in_domain_classes)

    def score(self, logits: Tensor) -> Tensor:
        mask = class_mask(self.in_domain_classes, logits.shape[-1])
        if mask.all():
            raise ValueError(
                "ClassGate compares in-domain classes with the others. "
                f"Expected: at least one of the {len(mask)} classes outside "
                "`in_domain_classes`. Received: all of them. Use "
                "gate='margin' when the student handles every class."
            )
        return _max_over(logits, mask) - _max_over(logits, ~mask)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "in_domain_classes": self.in_domain_classes,
        }


def _max_over(logits, mask):
    # Constant indices: a lookup by a computed index has no TFLite built-in.
    indices = np.flatnonzero(mask).astype("int32")
    return ops.max(ops.take(logits, indices, axis=-1), axis=-1)
