"""Base class of tasks."""

from typing import Any

import numpy as np
from keras import ops

from keras_cascade.utils.answer_form import (
    LINEAR,
    SIGMOID,
    SOFTMAX,
    name_of_answers,
)
from keras_cascade.utils.constructor_repr import constructor_repr
from keras_cascade.utils.tensor_ops import Tensor, as_float

_ACTIVATIONS = {
    SOFTMAX: lambda outputs: ops.softmax(outputs, axis=-1),
    SIGMOID: ops.sigmoid,
    LINEAR: lambda outputs: outputs,
}


class Task:
    """Base class of tasks: the meaning of outputs and labels, and a loss.

    A task is a small serializable object that a `Cascade` asks for all that
    depends on the kind of prediction. A subclass implements

    - `label_loss` and `distillation_loss`, which the student is trained on,
    - `score`, which the gate compares with its threshold,
    - `loss`, in [0, 1], which calibration bounds,

    and sets `activation`. A student may have other outputs than the teacher,
    such as a spread beside each value: `answer_outputs` then gives those in
    the teacher's form, and `check_shapes` is overridden. All tensors have the
    batch axis first; methods use `keras.ops`, of float32 tensors.

    The accuracy of such a cascade is the mean of `1 - loss`, in every metric,
    curve, objective and operating point.

    Register a subclass with `keras.saving.register_keras_serializable` to
    save a cascade with it.

    Attributes:
        activation: `"softmax"`, `"sigmoid"` or `"linear"`, along the last
            axis: from the teacher's outputs to answers. It is part of the
            manifest of a bundle, so that a device needs no code of the task.
        one_class_per_example: bool. True for classifiers with one class per
            example only, whose labels are indices of classes.
        zero_one_loss: bool. True where `loss` is 0 or 1 for every example;
            guarantees then rest on exact tests.
        loss_name: str, of the loss in sentences, such as `"Hamming loss"`.
        default_threshold: float, of the gate until calibration sets another.
    """

    activation = LINEAR
    one_class_per_example = False
    zero_one_loss = False
    loss_name = "loss"
    default_threshold = 0.0

    def label_loss(self, labels: Tensor, outputs: Tensor) -> Tensor:
        """Training loss of each example against its label.

        Args:
            labels: tensor, batch first.
            outputs: float tensor, the student's outputs.

        Returns:
            Float tensor of shape `(batch,)`.
        """
        raise NotImplementedError(f"{type(self).__name__}.label_loss")

    def distillation_loss(
        self, teacher_outputs: Tensor, outputs: Tensor, temperature: float
    ) -> Tensor:
        """Training loss of each example against the teacher's outputs.

        Args:
            teacher_outputs: float tensor, batch first, without gradient.
            outputs: float tensor, the student's outputs.
            temperature: float > 0. Divides the teacher's outputs where the
                activation is a softmax or a sigmoid.

        Returns:
            Float tensor of shape `(batch,)`.
        """
        raise NotImplementedError(f"{type(self).__name__}.distillation_loss")

    def score(self, outputs: Tensor) -> Tensor:
        """Confidence of each example; higher = the student is surer.

        Args:
            outputs: float tensor, the student's outputs.

        Returns:
            Float tensor of shape `(batch,)`.
        """
        raise NotImplementedError(f"{type(self).__name__}.score")

    def loss(self, labels: Tensor, answers: Tensor) -> Tensor:
        """Bounded loss of each example's answer, which is guaranteed.

        Args:
            labels: tensor, batch first.
            answers: float tensor, as `answers` returns them.

        Returns:
            Float tensor of shape `(batch,)`, in [0, 1].
        """
        raise NotImplementedError(f"{type(self).__name__}.loss")

    def answers(self, outputs: Tensor) -> Tensor:
        """Answers of outputs in the teacher's form: the activation of them."""
        return _ACTIVATIONS[self.activation](outputs)

    @property
    def answer_name(self) -> str:
        """Name of the answers: `"probabilities"`, or `"values"` of linear."""
        return name_of_answers(self.activation)

    def answer_outputs(self, outputs: Tensor) -> Tensor:
        """The student's outputs in the teacher's form, here themselves."""
        return outputs

    def check_shapes(self, teacher: tuple, student: tuple) -> int:
        """Checks the output shapes of both models.

        Args:
            teacher: tuple of int or `None`, batch first.
            student: the same.

        Returns:
            int, size of the last axis of the teacher's outputs.

        Raises:
            ValueError: the shapes do not belong together.
        """
        if _sizes(teacher) != _sizes(student):
            raise ValueError(
                "Expected teacher and student to have outputs of the same "
                f"shape. Received: teacher {teacher}, student {student}."
            )
        return int(teacher[-1])

    def check_classes(self, classes: int) -> None:
        """Checks the number of classes or outputs; here any is right.

        Args:
            classes: int, as `check_shapes` returned it.
        """

    def check_labels(self, labels: Any, size: int) -> None:
        """Checks the labels of a batch.

        Args:
            labels: array, batch first, or `None`.
            size: int, as `check_shapes` returned it.

        Raises:
            ValueError: labels that are missing or not finite.
        """
        if labels is None:
            raise ValueError(
                "Expected examples with labels, `(x, y)`. Received inputs only."
            )
        labels = np.asarray(labels)
        if labels.dtype.kind not in "biuf":
            raise ValueError(
                f"Expected labels that are numbers. Received: {labels.dtype} "
                f"values such as {labels.ravel()[:3].tolist()}."
            )
        if labels.dtype.kind == "f" and not np.isfinite(labels).all():
            bad = ~np.isfinite(labels.reshape(len(labels), -1)).all(axis=1)
            raise ValueError(
                "Expected finite labels. Received NaN or infinity, in "
                f"{int(bad.sum())} of {len(labels)} examples: they have no "
                "label. Leave them out."
            )

    def quality(self, labels: Tensor, answers: Tensor) -> Tensor:
        """`1 - loss` of each example, of shape `(batch,)` and in float32.

        0 where an answer is not a number, whatever `loss` makes of it.
        """
        answers = as_float(answers)
        quality = 1.0 - as_float(self.loss(labels, answers))
        rows = ops.reshape(answers, (ops.shape(answers)[0], -1))
        return ops.where(ops.any(ops.isnan(rows), axis=1), 0.0, quality)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments as JSON-compatible values."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Task":
        """Makes a task from its config."""
        return cls(**config)

    def __repr__(self):
        return constructor_repr(self)

    def __eq__(self, other):
        same = type(self) is type(other)
        return same and self.get_config() == other.get_config()

    def __hash__(self):
        return hash(repr(self))


def _sizes(shape):
    """Sizes after the batch axis; free ones equal each other."""
    return tuple(shape[1:])
