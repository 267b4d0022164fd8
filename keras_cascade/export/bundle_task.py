"""Task of a bundle: its manifest entry, and the loss of its answers."""

from collections.abc import Callable
from typing import Any

import keras

from keras_cascade.bundle import Bundle
from keras_cascade.datasets.input_checks import class_label_check
from keras_cascade.evaluation.example_results import ExampleResultsBuilder
from keras_cascade.prediction import results_builder
from keras_cascade.tasks import Task
from keras_cascade.utils.answer_form import AnswerForm

#: Registered names of the package's own tasks begin with it.
OWN = "keras_cascade>"


def described_task(task: Task, answers: AnswerForm) -> dict:
    """Manifest entry of a task; empty of one class per example.

    Args:
        task: `Task`.
        answers: `AnswerForm` of its answers.
    """
    if answers.one_class:
        return {}
    name = keras.saving.get_registered_name(type(task))
    return {
        "task": {
            "class": name.removeprefix(OWN),
            "config": task.get_config(),
            "activation": answers.activation,
            "output": answers.name,
            "shape": list(answers.sizes),
            "loss": task.loss_name,
            "zero_one_loss": bool(task.zero_one_loss),
        }
    }


def task_of(bundle: Bundle) -> Task | None:
    """Task of a bundle; `None` of one class per example.

    Args:
        bundle: `Bundle`.

    Raises:
        ValueError: the class of the task is not registered, does not take
            its config, or has another activation or loss than the manifest.
    """
    entry = bundle.manifest.get("task")
    if entry is None:
        return None
    name = entry["class"]
    for registered in (f"{OWN}{name}", name):
        kind = keras.saving.get_registered_object(registered)
        if isinstance(kind, type) and issubclass(kind, Task):
            break
    else:
        raise ValueError(
            f"The loss of this bundle is that of the task '{name}', whose "
            "class is not known here. Expected: a class that is registered "
            "with `keras.saving.register_keras_serializable`, in a module that "
            "was imported. Received: none. Call "
            "`keras_cascade.export.bundle_checks.check_bundle` in a program "
            "that imports it."
        )
    try:
        task = kind.from_config(entry["config"])
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The task '{name}' does not take the config that the manifest "
            f"has, {entry['config']}: {error}"
        ) from error
    own = {
        "activation": task.activation,
        "loss": task.loss_name,
        "zero_one_loss": bool(task.zero_one_loss),
    }
    stated = {key: entry[key] for key in own}
    if stated != own:
        raise ValueError(
            f"Expected a manifest that describes the task '{name}' as its "
            f"class does, {own}. Received: {stated}. Export the bundle again."
        )
    return task


def builder_of(bundle: Bundle) -> Callable[[], ExampleResultsBuilder]:
    """Function that returns an empty `ExampleResultsBuilder` of a bundle.

    Args:
        bundle: `Bundle`.

    Raises:
        ValueError: the class of its task is not known.
    """
    task = task_of(bundle)
    return lambda: results_builder(task)


def label_check(bundle: Bundle) -> Callable[[Any], None]:
    """Function that raises at labels that are none of a bundle's task.

    Args:
        bundle: `Bundle`.

    Raises:
        ValueError: the class of its task is not known.
    """
    task, size = task_of(bundle), len(bundle.classes)
    if task is None:
        return class_label_check(size)
    return lambda labels: task.check_labels(labels, size)
