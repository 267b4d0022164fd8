"""Calibration: the threshold that meets an objective, with a guarantee."""

from keras_cascade.calibration.all_of import AllOf
from keras_cascade.calibration.calibration_sample import CalibrationSample
from keras_cascade.calibration.max_accuracy_drop import MaxAccuracyDrop
from keras_cascade.calibration.max_cost import MaxCost
from keras_cascade.calibration.max_delegation_rate import MaxDelegationRate
from keras_cascade.calibration.min_accuracy import MinAccuracy
from keras_cascade.calibration.min_group_accuracy import MinGroupAccuracy
from keras_cascade.calibration.objective import Objective
from keras_cascade.calibration.operating_point import OperatingPoint
from keras_cascade.calibration.serialization import (
    deserialize,
    get,
    serialize,
)
from keras_cascade.calibration.simultaneous_bounds import SimultaneousBounds
from keras_cascade.calibration.thresholds import (
    calibrate,
    fit_threshold,
    fit_thresholds,
    measure_threshold,
)

__all__ = [
    "AllOf",
    "CalibrationSample",
    "MaxAccuracyDrop",
    "MaxCost",
    "MaxDelegationRate",
    "MinAccuracy",
    "MinGroupAccuracy",
    "Objective",
    "OperatingPoint",
    "SimultaneousBounds",
    "calibrate",
    "deserialize",
    "fit_threshold",
    "fit_thresholds",
    "get",
    "measure_threshold",
    "serialize",
]


def __dir__():
    return list(__all__)
