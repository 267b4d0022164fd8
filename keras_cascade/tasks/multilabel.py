"""Task: any number of labels per example."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_cascade.tasks.task import Task
from keras_cascade.utils.answer_form import SIGMOID
from keras_cascade.utils.tensor_ops import Tensor, as_float

#: Losses by name: what it is in sentences, and whether it is 0 or 1.
_LOSSES = {
    "hamming": ("Hamming loss", False),
    "false_negatives": ("share of missed labels", False),
    "example": ("share of examples with a wrong label", True),
}
_AGGREGATES = {"min": ops.min, "mean": ops.mean}


@keras.saving.register_keras_serializable("keras_cascade")
class MultiLabel(Task):
    """Any number of labels per example, each with a sigmoid.

    Labels are arrays `(batch, labels)` of 0 and 1. A label is predicted where
    its probability is at least 0.5. Models output a logit per label, or the
    sigmoid of it, which is then read before the activation.

    The student is trained on the mean over the labels of the cross-entropy
    between `sigmoid(student logit)` and `sigmoid(teacher logit / τ)` or the
    label. An example's score is that of its least sure label (or the mean
    over the labels), where a label's is `|2·p − 1|`, the margin between
    having it and not.

    Args:
        loss: the loss that is guaranteed, of an example: `"hamming"` (share
            of the labels that are wrong), `"false_negatives"` (share of its
            labels that are missed; 0 where it has none) or `"example"` (1
            where any label is wrong). Defaults to `"hamming"`.
        aggregate: `"min"` or `"mean"`, from the labels' margins to the score.
            Defaults to `"min"`.

    Example:

    >>> import keras_cascade as kc
    >>> task = kc.tasks.MultiLabel()
    >>> float(task.loss([[1, 0, 1, 0]], [[0.9, 0.2, 0.3, 0.1]])[0])
    0.25
    >>> round(float(task.score([[4.0, -0.5, 3.0]])[0]), 4)
    0.2449
    """

    activation = SIGMOID
    default_threshold = 0.5

    def __init__(self, loss: str = "hamming", aggregate: str = "min"):
        for name, value, known in (
            ("loss", loss, _LOSSES),
            ("aggregate", aggregate, _AGGREGATES),
        ):
            if value not in known:
                raise ValueError(
                    f"Expected `{name}` out of {sorted(known)}. Received: "
                    f"{value!r}."
                )
        self._loss = loss
        self.aggregate = aggregate
        self.loss_name, self.zero_one_loss = _LOSSES[loss]

    def label_loss(self, labels: Tensor, outputs: Tensor) -> Tensor:
        return _cross_entropy(ops.cast(labels, "float32"), outputs)

    def distillation_loss(
        self, teacher_outputs: Tensor, outputs: Tensor, temperature: float
    ) -> Tensor:
        targets = ops.sigmoid(as_float(teacher_outputs) / temperature)
        return _cross_entropy(targets, outputs)

    def score(self, outputs: Tensor) -> Tensor:
        # |2·sigmoid(z) − 1|, without the rounding of sigmoids near 1/2.
        margins = ops.abs(ops.tanh(as_float(outputs) / 2.0))
        return _AGGREGATES[self.aggregate](margins, axis=-1)

    def loss(self, labels: Tensor, answers: Tensor) -> Tensor:
        labels = ops.greater(ops.cast(labels, "float32"), 0.5)
        predicted = ops.greater_equal(answers, 0.5)
        if self._loss == "false_negatives":
            missed = ops.logical_and(labels, ops.logical_not(predicted))
            have = ops.sum(ops.cast(labels, "float32"), axis=-1)
            missed = ops.sum(ops.cast(missed, "float32"), axis=-1)
            return missed / ops.maximum(have, 1.0)
        wrong = ops.cast(ops.not_equal(labels, predicted), "float32")
        reduce = ops.max if self._loss == "example" else ops.mean
        return reduce(wrong, axis=-1)

    def check_shapes(self, teacher: tuple, student: tuple) -> int:
        if len(teacher) != 2:
            raise ValueError(
                "Expected models with outputs of shape (batch, labels). "
                f"Received: teacher {teacher}."
            )
        return super().check_shapes(teacher, student)

    def check_labels(self, labels: Any, size: int) -> None:
        super().check_labels(labels, size)
        labels = np.asarray(labels)
        expected = (
            f"Expected labels of shape (batch, {size}), 0 or 1 for each label."
        )
        if labels.ndim != 2 or labels.shape[1] != size:
            raise ValueError(
                f"{expected} Received shape {labels.shape}. Of lists of "
                "labels `sklearn.preprocessing.MultiLabelBinarizer` makes "
                "such an array."
            )
        if not np.isin(labels, (0, 1)).all():
            others = labels[~np.isin(labels, (0, 1))]
            raise ValueError(
                f"{expected} Received values such as {others[:3].tolist()}."
            )

    def get_config(self) -> dict[str, Any]:
        return {"loss": self._loss, "aggregate": self.aggregate}

    def __repr__(self):
        return f"MultiLabel(loss={self._loss!r}, aggregate={self.aggregate!r})"


def _cross_entropy(targets, outputs):
    """Mean over the labels of the sigmoid cross-entropy, of each example."""
    z = as_float(outputs)
    losses = ops.softplus(z) - ops.cast(targets, z.dtype) * z
    return ops.mean(losses, axis=-1)
