"""Thresholds: what to ask for, and how to find the one that gives it."""

from keras_cascade.calibration.fit_threshold import fit_threshold
from keras_cascade.calibration.max_accuracy_drop import MaxAccuracyDrop
from keras_cascade.calibration.max_delegation_rate import MaxDelegationRate
from keras_cascade.calibration.measure_threshold import measure_threshold
from keras_cascade.calibration.min_accuracy import MinAccuracy
from keras_cascade.calibration.objective import Objective
from keras_cascade.calibration.operating_point import OperatingPoint

OBJECTIVES = {
    cls.__name__: cls
    for cls in (MaxAccuracyDrop, MaxDelegationRate, MinAccuracy)
}


def objective_from_description(description):
    """The inverse of `Objective.describe`."""
    return OBJECTIVES[description["class_name"]](**description["config"])


__all__ = [
    "MaxAccuracyDrop",
    "MaxDelegationRate",
    "MinAccuracy",
    "Objective",
    "OperatingPoint",
    "fit_threshold",
    "measure_threshold",
    "objective_from_description",
]
