"""What to watch while a cascade trains."""

from keras_cascade.callbacks.crash_safe_backup import CrashSafeBackup
from keras_cascade.callbacks.deferral_curve import DeferralCurve

__all__ = ["CrashSafeBackup", "DeferralCurve"]
