"""Distillation policy of a task: its losses, mixed."""

from typing import Any

import keras
from keras import ops

from keras_cascade.distillation.distillation_policy import (
    DistillationPolicy,
    check_temperature,
)
from keras_cascade.distillation.standard_distillation import (
    StandardDistillation,
)
from keras_cascade.tasks.serialization import get
from keras_cascade.tasks.task import Task
from keras_cascade.utils.tensor_ops import Tensor, as_float
from keras_cascade.utils.validation import check_number


@keras.saving.register_keras_serializable("keras_cascade")
class TaskDistillation(DistillationPolicy):
    """Mixes a task's losses against label and teacher, for every example.

    `loss = a·label_loss + (1 − a)·distillation_loss`

    The policy of every cascade whose task is not one class per example. It is
    made of a `StandardDistillation`, such as the default.

    Args:
        task: name, dict or `Task`.
        temperature: float > 0, of `Task.distillation_loss`. Defaults to
            `1.0`.
        student_loss_weight: float in [0, 1], a. Defaults to `0.0`.

    Example:

    >>> import keras_cascade as kc
    >>> policy = kc.tasks.TaskDistillation("multilabel", student_loss_weight=1)
    >>> loss = policy.example_loss([[1, 0]], [[0.0, 0.0]], [[0.0, 0.0]])
    >>> round(float(loss[0]), 4)
    0.6931
    """

    selective = False
    takes_top_k = False

    def __init__(
        self,
        task: str | dict | Task,
        temperature: float = 1.0,
        student_loss_weight: float = 0.0,
    ):
        self.task = get(task)
        self.temperature = check_temperature(temperature)
        self.student_loss_weight = check_number(
            "student_loss_weight", student_loss_weight, 0, 1
        )

    @property
    def needs_teacher(self) -> bool:
        """False where the labels alone are the target."""
        return self.student_loss_weight < 1

    @classmethod
    def of_policy(
        cls, task: Task, policy: DistillationPolicy
    ) -> "TaskDistillation":
        """Makes the policy of a task with the arguments of another.

        Args:
            task: `Task`.
            policy: `StandardDistillation`, or a `TaskDistillation` of the
                same task, which is returned.

        Raises:
            ValueError: a policy that is about classes.
        """
        if isinstance(policy, cls) and policy.task == task:
            return policy
        plain = type(policy) is StandardDistillation
        if not isinstance(policy, StandardDistillation) or not plain:
            raise ValueError(
                f"Expected `distillation='standard'` with {task!r}, or "
                "`StandardDistillation(temperature=..., "
                f"student_loss_weight=...)`. Received: {policy!r}, which is "
                "about one class per example."
            )
        if policy.scale_by_temperature_squared:
            raise ValueError(
                f"Expected no `scale_by_temperature_squared` with {task!r}. "
                f"Received: {policy!r}."
            )
        weight = 1.0 if policy.oracle else policy.student_loss_weight
        return cls(task, policy.temperature, weight)

    def selected(
        self,
        labels: Tensor,
        teacher_logits: Tensor,
        student_logits: Tensor | None = None,
    ) -> Tensor:
        rows = ops.shape(teacher_logits)[0]
        return ops.ones((rows,), dtype="bool")

    def example_loss(
        self, labels: Tensor, teacher_logits: Tensor, student_logits: Tensor
    ) -> Tensor:
        outputs = as_float(student_logits)
        a = self.student_loss_weight
        loss = 0.0
        if a > 0:
            loss = a * self.task.label_loss(labels, outputs)
        if a < 1:
            loss = loss + (1.0 - a) * self.task.distillation_loss(
                as_float(teacher_logits), outputs, self.temperature
            )
        return loss

    def get_config(self) -> dict[str, Any]:
        return {
            "task": keras.saving.serialize_keras_object(self.task),
            "temperature": self.temperature,
            "student_loss_weight": self.student_loss_weight,
        }
