"""Tasks: the meaning of outputs and labels, and the loss of an answer."""

from keras_cascade.tasks.binary import Binary
from keras_cascade.tasks.multiclass import MultiClass
from keras_cascade.tasks.multilabel import MultiLabel
from keras_cascade.tasks.regression import Regression
from keras_cascade.tasks.serialization import deserialize, get, serialize
from keras_cascade.tasks.task import Task
from keras_cascade.tasks.task_distillation import TaskDistillation
from keras_cascade.tasks.task_gate import TaskGate

__all__ = [
    "Binary",
    "MultiClass",
    "MultiLabel",
    "Regression",
    "Task",
    "TaskDistillation",
    "TaskGate",
    "deserialize",
    "get",
    "serialize",
]


def __dir__():
    return list(__all__)
