"""Calibration: the threshold that meets an objective, with a guarantee."""

from keras_cascade.calibration.all_of import AllOf
from keras_cascade.calibration.calibration_sample import CalibrationSample
from keras_cascade.calibration.max_accuracy_drop import MaxAccuracyDrop
from keras_cascade.calibration.max_cost import MaxCost
from keras_cascade.calibration.max_delegation_rate import MaxDelegationRate
from keras_cascade.calibration.max_expected_cost import MaxExpectedCost
from keras_cascade.calibration.max_expected_loss import MaxExpectedLoss
from keras_cascade.calibration.max_false_alarm_rate import MaxFalseAlarmRate
from keras_cascade.calibration.max_loss_increase import MaxLossIncrease
from keras_cascade.calibration.min_accuracy import MinAccuracy
from keras_cascade.calibration.min_group_accuracy import MinGroupAccuracy
from keras_cascade.calibration.min_precision import MinPrecision
from keras_cascade.calibration.min_recall import MinRecall
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
    "MaxExpectedCost",
    "MaxExpectedLoss",
    "MaxFalseAlarmRate",
    "MaxLossIncrease",
    "MinAccuracy",
    "MinGroupAccuracy",
    "MinPrecision",
    "MinRecall",
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
