"""A small model on the device, a large one in the cloud, a gate between.

The parts are loaded when they are first used, so that
`import keras_cascade.runtime` needs neither TensorFlow nor Keras. Where a part
is what loads TensorFlow, it loads without its greetings
(`KERAS_CASCADE_NATIVE_LOGS=1` shows them).
"""

import importlib
import os
import sys

from keras_cascade.utils.native_output import (
    ask_for_less,
    hidden_native_output,
    load_tensorflow,
)
from keras_cascade.version import __version__

ask_for_less()

_FOLDERS = (
    "bundle",
    "calibration",
    "callbacks",
    "datasets",
    "distillation",
    "evaluation",
    "export",
    "gates",
    "models",
    "runtime",
    "serving",
    "teacher_logits",
    "text",
)
#: Where the classes are that a `.keras` file may hold.
_SAVED = ("cascade", "distillation", "gates", "text")
_WITHOUT_KERAS = ("bundle", "calibration", "evaluation", "runtime")
_NAMES = {
    "TeacherLogitsCache": "teacher_logits",
    "TrafficMix": "traffic_mix",
    "cache_teacher_logits": "teacher_logits",
    "cross_fit_teacher_logits": "teacher_logits",
    "Cascade": "cascade",
    "DriftMonitor": "runtime",
    "MaxAccuracyDrop": "calibration",
    "MaxCost": "calibration",
    "MaxDelegationRate": "calibration",
    "MinAccuracy": "calibration",
    "MinGroupAccuracy": "calibration",
}

__all__ = ["__version__", *_FOLDERS, *_NAMES]


def __getattr__(name):
    if name not in _NAMES and name not in _FOLDERS:
        raise AttributeError(
            f"module 'keras_cascade' has no attribute '{name}'"
        )
    part = _NAMES.get(name, name)
    if part not in _WITHOUT_KERAS:
        _load_keras()
    module = importlib.import_module(f"keras_cascade.{part}")
    return getattr(module, name) if name in _NAMES else module


def _load_keras():
    """Imports Keras and its backend, unless someone has done so."""
    if "keras" in sys.modules:
        return
    if os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow":
        load_tensorflow()
    with hidden_native_output():
        importlib.import_module("keras")


def _register(_):
    """Tells Keras of the classes that it may find in a `.keras` file."""
    for part in _SAVED:
        importlib.import_module(f"keras_cascade.{part}")


def __dir__():
    return sorted(__all__)


# So that `keras.models.load_model` opens a cascade, whichever of the two
# packages was imported first. Where Keras is not installed, wrapt may lack too.
try:
    import wrapt
except ImportError:
    pass
else:
    wrapt.register_post_import_hook(_register, "keras")
