"""Search for the best cascade within a budget."""

from keras_cascade.tuning.search import tune
from keras_cascade.tuning.training import Training, default_trainings
from keras_cascade.tuning.tuning_result import TuningResult

__all__ = ["Training", "TuningResult", "default_trainings", "tune"]


def __dir__():
    return list(__all__)
