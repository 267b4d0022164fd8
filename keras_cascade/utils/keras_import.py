"""Imports Keras ahead of the modules that need it, and registers our classes.

`keras.models.load_model` finds a class only if it is registered, so all of
ours are registered as soon as Keras is imported, whoever imports it. To do so
our modules must be imported, which cannot be done in the middle of importing
one of them. Hence a module of ours that needs Keras waits until Keras, and
with it the registration, is complete.
"""

import importlib
import importlib.abc
import importlib.machinery
import os
import sys
from types import ModuleType

from keras_cascade.utils.native_output import (
    hidden_native_output,
    load_tensorflow,
)

#: Modules below `keras_cascade` that import Keras, with all that is in them.
_NEED_KERAS = (
    "callbacks",
    "cascade",
    "data_record",
    "datasets.array_forms",
    "datasets.batches",
    "datasets.fingerprint",
    "datasets.input_checks",
    "datasets.labelled_data",
    "distillation",
    "evaluation.report",
    "export",
    "feature_extractors",
    "fitting",
    "gates",
    "metrics",
    "model_checks",
    "models",
    "prediction",
    "selective_trainer",
    "steps",
    "tasks",
    "teacher_checks",
    "teacher_logits",
    "teachers",
    "text.preprocessors",
    "text.text_model",
    "tuning",
    "utils.registry",
    "utils.serialized_model",
    "utils.tensor_ops",
    "utils.top_k_logits",
)
#: Modules that register the classes a `.keras` file may contain.
_WITH_REGISTERED_CLASSES = (
    "cascade",
    "distillation",
    "gates",
    "metrics",
    "tasks",
    "text",
)


def load_keras() -> None:
    """Imports Keras and its backend, unless they are loaded already."""
    if "keras" in sys.modules:
        return
    if os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow":
        load_tensorflow()
    with hidden_native_output():
        importlib.import_module("keras")


def install() -> None:
    """Sets up the registration, and that Keras comes first."""
    try:
        import wrapt
    except ImportError:  # a device without Keras
        return
    sys.meta_path.insert(0, KerasFirst())
    wrapt.register_post_import_hook(_register_classes, "keras")


def _register_classes(_: ModuleType) -> None:
    for part in _WITH_REGISTERED_CLASSES:
        importlib.import_module(f"keras_cascade.{part}")


def needs_keras(name: str) -> bool:
    """Returns whether a module of ours imports Keras."""
    package, _, part = name.partition(".")
    return package == "keras_cascade" and f"{part}.".startswith(
        tuple(f"{one}." for one in _NEED_KERAS)
    )


class KerasFirst(importlib.abc.MetaPathFinder):
    """Finder that imports Keras before a module of ours that needs it."""

    def find_spec(
        self, fullname: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Returns a module that the registration imported; else `None`."""
        if "keras" in sys.modules or not needs_keras(fullname):
            return None
        load_keras()
        module = sys.modules.get(fullname)
        if module is None:
            return None
        return importlib.machinery.ModuleSpec(fullname, _Imported(module))


class _Imported(importlib.abc.Loader):
    """Loader of a module that is imported already: it is not run again."""

    def __init__(self, module: ModuleType):
        self._module = module
        self._spec = module.__spec__

    def create_module(self, spec: object) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec
