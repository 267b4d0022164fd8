"""Abstain gate: the best class against the abstain output."""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from keras_cascade.gates.gate import Gate
from keras_cascade.utils.class_subset import check_classes, class_mask
from keras_cascade.utils.tensor_ops import Tensor

#: The logit of a class that the student has no output for: probability 0.
NO_OUTPUT = -1e9
#: Elements of the largest matrix that spreads the outputs over the classes.
MAX_SCATTER = 2**22


@keras.saving.register_keras_serializable("keras_cascade")
class AbstainGate(Gate):
    """Scores an abstain student by its best class minus the abstain logit.

    `score = best class logit − abstain logit`: at threshold 0 an example is
    kept if and only if some class does at least as well as abstaining.

    Source: arXiv 2110.10305, the delegation rule of CD-III.

    Args:
        in_domain_classes: ints, the classes of the student's outputs. Made
            by name, the gate takes those of `AbstainDistillation`.
        threshold: float. Defaults to `0.0`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        logits: float tensor of shape `(batch, len(in_domain_classes) + 1)`,
            the in-domain classes in ascending order, then abstain.

    Returns:
        Float tensor of shape `(batch,)`. Higher is surer.

    Example:

    >>> import keras
    >>> import keras_cascade as kc
    >>> gate = kc.gates.AbstainGate([0, 2])
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
        self._check_outputs(logits)
        return ops.max(logits[:, :-1], axis=-1) - logits[:, -1]

    def class_logits(self, logits: Tensor, classes: int) -> Tensor:
        """Spreads the student's outputs over all classes, without abstain.

        A class that the student has no output for gets probability 0.
        """
        self._check_outputs(logits)
        inside = class_mask(self.in_domain_classes, classes)
        if len(self.in_domain_classes) * classes > MAX_SCATTER:
            # Each class reads its output, or the floor behind the last one.
            # Constant indices, as `ClassGate` has them.
            index = np.full(classes, len(self.in_domain_classes), "int32")
            index[self.in_domain_classes] = range(len(self.in_domain_classes))
            floor = ops.full_like(logits[:, :1], NO_OUTPUT)
            outputs = ops.concatenate([logits[:, :-1], floor], axis=-1)
            return ops.take(outputs, index, axis=-1)
        # A product with zeros and ones: a scatter has no TFLite built-in.
        scatter = np.zeros((len(self.in_domain_classes), classes))
        scatter[np.arange(len(scatter)), self.in_domain_classes] = 1.0
        floor = np.where(inside, 0.0, NO_OUTPUT)
        spread = ops.matmul(logits[:, :-1], ops.cast(scatter, logits.dtype))
        return spread + ops.cast(floor, logits.dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "in_domain_classes": self.in_domain_classes,
        }

    def _check_outputs(self, logits):
        expected = len(self.in_domain_classes) + 1
        if logits.shape[-1] != expected:
            raise ValueError(
                f"AbstainGate expects {expected} student outputs: the "
                f"{expected - 1} in-domain classes, then abstain. Received: "
                f"{logits.shape[-1]}. Make the student's last layer with "
                "`AbstainDistillation(...).student_head()`."
            )
