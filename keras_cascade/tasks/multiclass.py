"""Task: one of several classes per example."""

from typing import Any

import keras
from keras import ops

from keras_cascade.datasets.input_checks import check_class_labels
from keras_cascade.distillation.distillation_policy import cross_entropy
from keras_cascade.tasks.task import Task
from keras_cascade.utils.answer_form import SOFTMAX
from keras_cascade.utils.tensor_ops import Tensor, as_float, softmax_margin


@keras.saving.register_keras_serializable("keras_cascade")
class MultiClass(Task):
    """One of several classes per example, the default of a `Cascade`.

    Labels are indices of classes, one-hot rows or class names. The loss is 1
    where the class with the highest probability is another than the label.
    Any distillation policy and gate can be used; the methods of this class
    are what the default ones compute.

    Example:

    >>> import keras_cascade as kc
    >>> task = kc.tasks.MultiClass()
    >>> [float(loss) for loss in task.loss([1, 0], [[0.3, 0.7], [0.2, 0.8]])]
    [0.0, 1.0]
    """

    activation = SOFTMAX
    one_class_per_example = True
    zero_one_loss = True
    loss_name = "error rate"
    default_threshold = 0.5

    def label_loss(self, labels: Tensor, outputs: Tensor) -> Tensor:
        labels = ops.one_hot(_indices(labels), outputs.shape[-1])
        return cross_entropy(labels, outputs)

    def distillation_loss(
        self, teacher_outputs: Tensor, outputs: Tensor, temperature: float
    ) -> Tensor:
        targets = ops.softmax(as_float(teacher_outputs) / temperature, axis=-1)
        return cross_entropy(targets, outputs)

    def score(self, outputs: Tensor) -> Tensor:
        return softmax_margin(as_float(outputs))

    def loss(self, labels: Tensor, answers: Tensor) -> Tensor:
        predicted = ops.cast(ops.argmax(answers, axis=-1), "int32")
        return ops.cast(ops.not_equal(predicted, _indices(labels)), "float32")

    def check_labels(self, labels: Any, size: int) -> None:
        check_class_labels(labels, size)


def _indices(labels):
    return ops.reshape(ops.cast(labels, "int32"), (-1,))
