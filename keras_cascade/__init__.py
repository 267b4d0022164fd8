"""Selective distillation for Keras: a student, a gate and a teacher.

Subpackages are imported on first use, so that `import keras_cascade.runtime`
loads neither TensorFlow nor Keras. An import of TensorFlow that this package
triggers hides TensorFlow's start-up messages (`KERAS_CASCADE_NATIVE_LOGS=1`
shows them).
"""

import importlib
from typing import TYPE_CHECKING

from keras_cascade.utils import keras_import
from keras_cascade.utils.native_output import ask_for_less
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
        metrics,
        models,
        runtime,
        serving,
        tasks,
        teacher_logits,
        teachers,
        text,
        tuning,
    )
    from keras_cascade.calibration import (
        MaxAccuracyDrop,
        MaxCost,
        MaxDelegationRate,
        MaxExpectedCost,
        MaxExpectedLoss,
        MaxFalseAlarmRate,
        MaxLossIncrease,
        MinAccuracy,
        MinGroupAccuracy,
        MinPrecision,
        MinRecall,
    )
    from keras_cascade.cascade import Cascade
    from keras_cascade.runtime import DriftMonitor
    from keras_cascade.teacher_logits import (
        TeacherLogitsCache,
        cache_teacher_logits,
        cross_fit_teacher_logits,
    )
    from keras_cascade.traffic_mix import TrafficMix
    from keras_cascade.tuning import tune

ask_for_less()
keras_import.install()

__all__ = [
    "Cascade",
    "DriftMonitor",
    "MaxAccuracyDrop",
    "MaxCost",
    "MaxDelegationRate",
    "MaxExpectedCost",
    "MaxExpectedLoss",
    "MaxFalseAlarmRate",
    "MaxLossIncrease",
    "MinAccuracy",
    "MinGroupAccuracy",
    "MinPrecision",
    "MinRecall",
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
    "metrics",
    "models",
    "runtime",
    "serving",
    "tasks",
    "teacher_logits",
    "teachers",
    "text",
    "tune",
    "tuning",
]

#: Public names that are defined in a module of another name.
_HOMES = {
    "Cascade": "cascade",
    "DriftMonitor": "runtime",
    "MaxAccuracyDrop": "calibration",
    "MaxCost": "calibration",
    "MaxDelegationRate": "calibration",
    "MaxExpectedCost": "calibration",
    "MaxExpectedLoss": "calibration",
    "MaxFalseAlarmRate": "calibration",
    "MaxLossIncrease": "calibration",
    "MinAccuracy": "calibration",
    "MinGroupAccuracy": "calibration",
    "MinPrecision": "calibration",
    "MinRecall": "calibration",
    "TeacherLogitsCache": "teacher_logits",
    "TrafficMix": "traffic_mix",
    "cache_teacher_logits": "teacher_logits",
    "cross_fit_teacher_logits": "teacher_logits",
    "tune": "tuning",
}
_WITHOUT_KERAS = ("bundle", "calibration", "errors", "evaluation", "runtime")


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(
            f"module 'keras_cascade' has no attribute '{name}'"
        )
    home = _HOMES.get(name, name)
    if home not in _WITHOUT_KERAS:
        keras_import.load_keras()
    module = importlib.import_module(f"keras_cascade.{home}")
    return getattr(module, name) if name in _HOMES else module


def __dir__() -> list[str]:
    return list(__all__)
