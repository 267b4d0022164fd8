"""Callbacks for training a cascade."""

from keras_cascade.callbacks.crash_safe_backup import CrashSafeBackup
from keras_cascade.callbacks.deferral_curve_callback import (
    DeferralCurveCallback,
)

__all__ = ["CrashSafeBackup", "DeferralCurveCallback"]


def __dir__():
    return list(__all__)
