"""Thresholds: what to ask for, and how to find the one that gives it."""

from keras_cascade.calibration.all_of import AllOf
from keras_cascade.calibration.calibrate import calibrate
from keras_cascade.calibration.calibration_sample import CalibrationSample
from keras_cascade.calibration.fit_threshold import as_objective, fit_threshold
from keras_cascade.calibration.max_accuracy_drop import MaxAccuracyDrop
from keras_cascade.calibration.max_cost import MaxCost
from keras_cascade.calibration.max_delegation_rate import MaxDelegationRate
from keras_cascade.calibration.measure_threshold import measure_threshold
from keras_cascade.calibration.min_accuracy import MinAccuracy
from keras_cascade.calibration.min_group_accuracy import MinGroupAccuracy
from keras_cascade.calibration.objective import Objective
from keras_cascade.calibration.operating_point import OperatingPoint
from keras_cascade.calibration.simultaneous import SimultaneousBounds

OBJECTIVES = {
    cls.__name__: cls
    for cls in (
        MaxAccuracyDrop,
        MaxCost,
        MaxDelegationRate,
        MinAccuracy,
        MinGroupAccuracy,
    )
}


def objective_from_description(description):
    """The inverse of `Objective.describe`."""
    name, config = description["class_name"], description["config"]
    if name == AllOf.__name__:
        return AllOf(
            [objective_from_description(one) for one in config["objectives"]]
        )
    return OBJECTIVES[name](**config)


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
    "as_objective",
    "calibrate",
    "fit_threshold",
    "measure_threshold",
    "objective_from_description",
]
