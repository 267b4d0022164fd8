"""Targets as a mixture of label, uniform distribution and teacher."""

import dataclasses
from typing import Any

from keras import ops

from keras_cascade.utils.tensor_ops import Tensor, as_float
from keras_cascade.utils.top_k_logits import TopKLogits


@dataclasses.dataclass(frozen=True)
class TargetMixture:
    """Weights of the three parts of a target; floats or tensors `(batch,)`.

    `target = label·one_hot(y) + uniform·1/L + teacher·softmax(logits / τ)`

    The cross-entropy of such a target needs no array of the target's size.
    With the student's logits z, the teacher's k known shares p_j and the
    share q of each other class (`TopKLogits.shares`), it is

    `W·logsumexp(z) − label·z_y − uniform·S / L
    − teacher·(Σ_j (p_j − q)·z_j + q·S)`,

    where W is the sum of the three weights, S = Σ z over all classes, and j
    runs over the k classes: the sum over the other classes is S less the k
    gathered logits.

    Attributes:
        label: weight of the one-hot label.
        uniform: weight of the uniform distribution.
        teacher: weight of the teacher's softmax.
        temperature: float > 0, τ.
    """

    label: Any = 0.0
    uniform: Any = 0.0
    teacher: Any = 1.0
    temperature: float = 1.0

    def cross_entropy(
        self, labels: Tensor, teacher_logits: TopKLogits, student_logits: Tensor
    ) -> Tensor:
        """Cross-entropy of each example, a float tensor `(batch,)`.

        Args:
            labels: integer tensor of shape `(batch,)`.
            teacher_logits: `TopKLogits`.
            student_logits: float tensor of shape `(batch, classes)`.
        """
        student = as_float(student_logits)
        dtype = student.dtype
        top, other = teacher_logits.shares(self.temperature)
        top, other = ops.cast(top, dtype), ops.cast(other, dtype)
        label = ops.cast(self.label, dtype)
        uniform = ops.cast(self.uniform, dtype)
        teacher = ops.cast(self.teacher, dtype)
        rows = ops.zeros_like(other)
        # What the target has at the k classes and at the label, above what
        # it has at every class.
        more = ops.reshape(teacher + rows, (-1, 1)) * (top - other[:, None])
        return _sparse_cross_entropy(
            student,
            classes=ops.cast(teacher_logits.classes, "int32"),
            more=more,
            labels=ops.cast(labels, "int32")[:, None],
            label=ops.reshape(label + rows, (-1, 1)),
            everywhere=teacher * other + uniform / teacher_logits.size + rows,
            weight=label + uniform + teacher + rows,
        )


def _sparse_cross_entropy(
    logits, classes, more, labels, label, everywhere, weight
):
    """Cross-entropy of a target that is constant but for a few classes.

    The gradient, `weight·softmax − target`, is written out: one pass over
    the logits, into which the few classes are scattered. Without it a second
    array of the logits' size would be made of zeros for the scatter.

    Args:
        logits: float tensor `(batch, outputs)`, of the student.
        classes: int32 tensor `(batch, k)`, distinct in each row.
        more: float tensor `(batch, k)`, of the target, at `classes`.
        labels: int32 tensor `(batch, 1)`.
        label: float tensor `(batch, 1)`, of the target, at `labels`.
        everywhere: float tensor `(batch,)`, of the target, at every class.
        weight: float tensor `(batch,)`, the target's sum.
    """
    index = ops.concatenate([classes, labels], axis=-1)
    same = ops.cast(ops.equal(classes, labels), more.dtype)
    # A label among the classes is scattered twice, with the same value.
    target = ops.concatenate(
        [
            more + same * label,
            label + ops.sum(same * more, axis=-1, keepdims=True),
        ],
        axis=-1,
    )
    target = target + everywhere[:, None]
    gathered_weights = ops.concatenate([more, label], axis=-1)

    @ops.custom_gradient
    def loss_of(logits):
        shifted_logits, log_total, total = shifted(logits)
        gathered = ops.take_along_axis(shifted_logits, index, axis=-1)
        loss = (
            weight * log_total
            - everywhere * total
            - ops.sum(gathered_weights * gathered, axis=-1)
        )

        def gradient(*args, upstream=None):
            slope = (args[0] if upstream is None else upstream)[:, None]
            scale = slope * weight[:, None]
            dense = (
                scale * ops.exp(shifted_logits - log_total[:, None])
                - slope * everywhere[:, None]
            )
            few = scale * ops.exp(gathered - log_total[:, None])
            row = ops.repeat(
                ops.arange(ops.shape(index)[0], dtype="int32"), index.shape[1]
            )
            position = ops.stack([row, ops.reshape(index, (-1,))], axis=1)
            return ops.scatter_update(
                dense, position, ops.reshape(few - slope * target, (-1,))
            )

        return loss, gradient

    return loss_of(logits)


def shifted(student_logits):
    """Logits with a largest of 0 in each row, their logsumexp and their sum.

    A shift changes no cross-entropy, and keeps the sums small.

    Args:
        student_logits: float tensor `(batch, outputs)`.

    Returns:
        Tuple of tensors `(batch, outputs)`, `(batch,)` and `(batch,)`.
    """
    student = as_float(student_logits)
    student = student - ops.stop_gradient(
        ops.max(student, axis=-1, keepdims=True)
    )
    return (
        student,
        ops.log(ops.sum(ops.exp(student), axis=-1)),
        ops.sum(student, axis=-1),
    )


def logits_of(labels, logits):
    """Logit of each example's label, `(batch,)`."""
    index = ops.cast(labels, "int32")[:, None]
    return ops.take_along_axis(logits, index, axis=-1)[:, 0]
