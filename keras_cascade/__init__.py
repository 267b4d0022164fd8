"""A small model on the device, a large one in the cloud, a gate between.

The parts are loaded when they are first used, so that
`import keras_cascade.runtime` needs neither TensorFlow nor Keras.
"""

import importlib

from keras_cascade.version import __version__

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
    if name in _NAMES:
        module = importlib.import_module(f"keras_cascade.{_NAMES[name]}")
        return getattr(module, name)
    if name in _FOLDERS:
        return importlib.import_module(f"keras_cascade.{name}")
    raise AttributeError(f"module 'keras_cascade' has no attribute '{name}'")


def __dir__():
    return sorted(__all__)
