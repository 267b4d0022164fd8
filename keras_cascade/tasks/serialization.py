"""Serialization of tasks, and tasks by name."""

from typing import Any

import keras

from keras_cascade.tasks.binary import Binary
from keras_cascade.tasks.multiclass import MultiClass
from keras_cascade.tasks.multilabel import MultiLabel
from keras_cascade.tasks.regression import Regression
from keras_cascade.tasks.task import Task
from keras_cascade.utils.registry import resolve

#: Every task by its short name.
NAMES = {
    "binary": Binary,
    "multiclass": MultiClass,
    "multilabel": MultiLabel,
    "regression": Regression,
}
DEFAULT = "multiclass"


def get(identifier: "str | dict[str, Any] | Task | None") -> Task:
    """Retrieves a task from a name, a dict or an object.

    Args:
        identifier: short name: `"multiclass"`, `"binary"` or `"multilabel"`
            (`Regression` needs arguments); dict, as `serialize` returns it;
            `Task`, which is returned as it is; or `None`, for
            `"multiclass"`.

    Returns:
        `Task`.

    Raises:
        ValueError: an unknown name, or a task that needs arguments.

    Example:

    >>> import keras_cascade as kc
    >>> kc.tasks.get("multilabel")
    MultiLabel(loss='hamming', aggregate='min')
    """
    return resolve(identifier, Task, NAMES, DEFAULT)


def serialize(task: Task) -> dict[str, Any]:
    """Returns the serialized config of a task, as a JSON-compatible dict.

    Args:
        task: `Task`.

    Example:

    >>> import keras_cascade as kc
    >>> kc.tasks.serialize(kc.tasks.MultiLabel())["config"]
    {'loss': 'hamming', 'aggregate': 'min'}
    """
    return keras.saving.serialize_keras_object(task)


def deserialize(config: dict[str, Any]) -> Task:
    """Makes a task from its serialized config.

    Args:
        config: dict, as `serialize` returns it, or in its short form of
            `class_name` (a short name) and `config`.

    Returns:
        `Task`.

    Example:

    >>> import keras_cascade as kc
    >>> task = kc.tasks.Regression(tolerance=0.5)
    >>> kc.tasks.deserialize(kc.tasks.serialize(task))
    Regression(tolerance=0.5)
    """
    return get(config)
