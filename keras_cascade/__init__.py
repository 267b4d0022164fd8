"""Selective distillation for Keras: a student, a gate and a teacher.

Subpackages are imported on first use, so that `import keras_cascade.runtime`
loads neither TensorFlow nor Keras. An import of TensorFlow that this package
triggers hides TensorFlow's start-up messages (`KERAS_CASCADE_NATIVE_LOGS=1`
shows them).
"""

import importlib
import os
import sys
from typing import TYPE_CHECKING

from keras_cascade.utils.native_output import (
    ask_for_less,
    hidden_native_output,
    load_tensorflow,
)
from keras_cascade.version import __version__

if TYPE_CHECKING:  # for editors and type checkers; `__getattr__` at run time
    from keras_cascade import (
        bundle,
        calibration,
        callbacks,
        datasets,
        distillation,
        errors,
        evaluation,
        export,
        gates,
        models,
        runtime,
        serving,
        teacher_logits,
        text,
    )
    from keras_cascade.calibration import (
        MaxAccuracyDrop,
        MaxCost,
        MaxDelegationRate,
        MinAccuracy,
        MinGroupAccuracy,
    )
    from keras_cascade.cascade import Cascade
    from keras_cascade.runtime import DriftMonitor
    from keras_cascade.teacher_logits import (
        TeacherLogitsCache,
        cache_teacher_logits,
        cross_fit_teacher_logits,
    )
    from keras_cascade.traffic_mix import TrafficMix

ask_for_less()

__all__ = [
    "Cascade",
    "DriftMonitor",
    "MaxAccuracyDrop",
    "MaxCost",
    "MaxDelegationRate",
    "MinAccuracy",
    "MinGroupAccuracy",
    "TeacherLogitsCache",
    "TrafficMix",
    "__version__",
    "bundle",
    "cache_teacher_logits",
    "calibration",
    "callbacks",
    "cross_fit_teacher_logits",
    "datasets",
    "distillation",
    "errors",
    "evaluation",
    "export",
    "gates",
    "models",
    "runtime",
    "serving",
    "teacher_logits",
    "text",
]

#: Public names that are defined in a module of another name.
_HOMES = {
    "Cascade": "cascade",
    "DriftMonitor": "runtime",
    "MaxAccuracyDrop": "calibration",
    "MaxCost": "calibration",
    "MaxDelegationRate": "calibration",
    "MinAccuracy": "calibration",
    "MinGroupAccuracy": "calibration",
    "TeacherLogitsCache": "teacher_logits",
    "TrafficMix": "traffic_mix",
    "cache_teacher_logits": "teacher_logits",
    "cross_fit_teacher_logits": "teacher_logits",
}
_WITHOUT_KERAS = ("bundle", "calibration", "errors", "evaluation", "runtime")
#: Modules that register the classes a `.keras` file may contain.
_WITH_REGISTERED_CLASSES = ("cascade", "distillation", "gates", "text")


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(
            f"module 'keras_cascade' has no attribute '{name}'"
        )
    home = _HOMES.get(name, name)
    if home not in _WITHOUT_KERAS:
        _load_keras()
    module = importlib.import_module(f"keras_cascade.{home}")
    return getattr(module, name) if name in _HOMES else module


def __dir__() -> list[str]:
    return list(__all__)


def _load_keras() -> None:
    """Imports Keras and its backend, unless they are loaded already."""
    if "keras" in sys.modules:
        return
    if os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow":
        load_tensorflow()
    with hidden_native_output():
        importlib.import_module("keras")


def _register_classes(_: object) -> None:
    """Registers the classes that a `.keras` file may contain with Keras."""
    for part in _WITH_REGISTERED_CLASSES:
        importlib.import_module(f"keras_cascade.{part}")


# `keras.models.load_model` then opens a cascade, whichever of the two packages
# was imported first. On a device there may be neither Keras nor wrapt.
try:
    import wrapt
except ImportError:
    pass
else:
    wrapt.register_post_import_hook(_register_classes, "keras")
