"""Keras metrics of the deferral curve."""

from keras_cascade.metrics.cascade_accuracy_at import CascadeAccuracyAt
from keras_cascade.metrics.deferral_area import DeferralArea
from keras_cascade.metrics.deferral_metric import DeferralMetric

__all__ = ["CascadeAccuracyAt", "DeferralArea", "DeferralMetric"]


def __dir__():
    return list(__all__)
