"""Abstain distillation: a student with an output to abstain."""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from keras_cascade.distillation.distillation_policy import (
    DistillationPolicy,
    check_temperature,
    teacher_targets,
)
from keras_cascade.distillation.target_mixture import logits_of, shifted
from keras_cascade.utils.class_subset import check_classes, class_mask
from keras_cascade.utils.tensor_ops import Tensor
from keras_cascade.utils.top_k_logits import TopKLogits


@keras.saving.register_keras_serializable("keras_cascade")
class AbstainDistillation(DistillationPolicy):
    """Trains a student with one output per in-domain class, and one to abstain.

    An in-domain example (by its **true label**) learns the teacher's softmax
    renormalised over the in-domain classes, with 0 on abstain; any other
    example learns one-hot abstain. The student's outputs are the in-domain
    classes in ascending order, then abstain: `student_head()` makes them.
    The gate is `"abstain"`, which also tells which class an output is.

    Source: arXiv 2110.10305, CD-III.

    Args:
        in_domain_classes: ints, the classes that the student is meant to
            handle. At least one, no repeats.
        temperature: float > 0, τ. Defaults to `1.0`.
        oracle: bool. Uses the label instead of the teacher's softmax. Defaults
            to `False`.

    Example:

    >>> import keras
    >>> import keras_cascade as kc
    >>> policy = kc.distillation.AbstainDistillation([0, 2])
    >>> targets = policy.targets([2, 1], keras.ops.zeros((2, 3)))
    >>> keras.ops.convert_to_numpy(targets).tolist()
    [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]
    """

    takes_top_k = True

    def __init__(
        self,
        in_domain_classes: npt.ArrayLike,
        temperature: float = 1.0,
        oracle: bool = False,
    ):
        self.in_domain_classes = check_classes(in_domain_classes)
        self.temperature = check_temperature(temperature)
        self.oracle = bool(oracle)

    @property
    def needs_teacher(self) -> bool:
        """False of an oracle, whose teacher is the labels."""
        return not self.oracle

    def student_head(self, **kwargs: Any) -> keras.layers.Dense:
        """Makes the student's last layer, `Dense(len(in_domain_classes) + 1)`.

        Args:
            **kwargs: of `keras.layers.Dense`.
        """
        return keras.layers.Dense(len(self.in_domain_classes) + 1, **kwargs)

    def student_outputs(self, classes: int) -> int:
        class_mask(self.in_domain_classes, classes)  # raises where too large
        return len(self.in_domain_classes) + 1

    def targets(self, labels: Tensor, teacher_logits: Tensor) -> Tensor:
        inside = ops.take(teacher_logits, self.in_domain_classes, axis=-1)
        # The softmax over some logits is the whole softmax, renormalised.
        shares = ops.softmax(inside / self.temperature, axis=-1)
        if self.oracle:
            whole = teacher_targets(labels, teacher_logits, 1.0, oracle=True)
            shares = ops.take(whole, self.in_domain_classes, axis=-1)
        nothing = ops.zeros_like(shares[:, :1])
        teach = ops.concatenate([shares, nothing], axis=-1)
        abstain = ops.concatenate(
            [ops.zeros_like(shares), nothing + 1.0], axis=-1
        )
        selected = self.selected(labels, teacher_logits)
        return ops.where(selected[:, None], teach, abstain)

    def example_loss(
        self, labels: Tensor, teacher_logits: Tensor, student_logits: Tensor
    ) -> Tensor:
        if not isinstance(teacher_logits, TopKLogits):
            return super().example_loss(labels, teacher_logits, student_logits)
        positions = np.full(teacher_logits.size, -1, "int32")
        positions[self.in_domain_classes] = range(len(self.in_domain_classes))
        student, log_total, _ = shifted(student_logits)
        in_domain = student[:, :-1]
        if self.oracle:
            # Of a label that is not in-domain the result is not used.
            index = ops.take(ops.maximum(positions, 0), labels)
            mean = logits_of(index, in_domain)
        else:
            mean = self._mean_of_top_k(positions, teacher_logits, in_domain)
        return log_total - ops.where(
            self.selected(labels, teacher_logits), mean, student[:, -1]
        )

    def _mean_of_top_k(self, positions, teacher_logits, in_domain):
        """Mean student logit under the teacher's in-domain softmax.

        In-domain classes that are not among the k known ones have the same
        weight each; their student logits are summed as the sum of all less
        the gathered ones.
        """
        position = ops.take(positions, teacher_logits.classes)
        known = position >= 0
        top = teacher_logits.logits / self.temperature
        level = teacher_logits.level[:, None] / self.temperature
        highest = ops.max(
            ops.where(known, ops.maximum(top, level), level),
            axis=-1,
            keepdims=True,
        )
        level = ops.cast(ops.exp(level - highest), in_domain.dtype)
        known = ops.cast(known, in_domain.dtype)
        top = ops.cast(
            ops.exp(ops.minimum(top - highest, 0.0)), in_domain.dtype
        )
        gathered = ops.take_along_axis(
            in_domain, ops.maximum(position, 0), axis=-1
        )
        more = known * (top - level)
        total = len(self.in_domain_classes) * level[:, 0] + ops.sum(more, -1)
        summed = level[:, 0] * ops.sum(in_domain, axis=-1) + ops.sum(
            more * gathered, axis=-1
        )
        return summed / total

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
            "temperature": self.temperature,
            "oracle": self.oracle,
        }
