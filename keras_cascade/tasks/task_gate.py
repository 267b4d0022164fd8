"""Gate that scores an example as its task does."""

from typing import Any

import keras

from keras_cascade.gates.gate import Gate
from keras_cascade.tasks.serialization import get
from keras_cascade.tasks.task import Task
from keras_cascade.utils.tensor_ops import Tensor


@keras.saving.register_keras_serializable("keras_cascade")
class TaskGate(Gate):
    """Scores an example as its task does.

    The gate of every cascade whose task is not one class per example. A
    subclass can override `score`.

    Args:
        task: name, dict or `Task`.
        threshold: finite float. Defaults to the task's `default_threshold`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        logits: float tensor, the student's outputs, batch first.

    Returns:
        Float tensor of shape `(batch,)`. Higher is surer.

    Example:

    >>> import keras, keras_cascade as kc
    >>> gate = kc.tasks.TaskGate("multilabel")
    >>> round(float(gate(keras.ops.array([[4.0, -0.5, 3.0]]))[0]), 4)
    0.2449
    """

    def __init__(
        self,
        task: str | dict | Task,
        threshold: float | None = None,
        **kwargs: Any,
    ):
        task = get(task)
        if threshold is None:
            threshold = task.default_threshold
        super().__init__(threshold=threshold, **kwargs)
        self.task = task

    def score(self, logits: Tensor) -> Tensor:
        return self.task.score(logits)

    def class_logits(self, logits: Tensor, classes: int) -> Tensor:
        return self.task.answer_outputs(logits)

    def answers(self, logits: Tensor) -> Tensor:
        return self.task.answers(logits)

    @property
    def answer_name(self) -> str:
        """Name of the answers in predictions."""
        return self.task.answer_name

    def get_config(self) -> dict[str, Any]:
        task = keras.saving.serialize_keras_object(self.task)
        return {**super().get_config(), "task": task}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "TaskGate":
        return cls(**config)
