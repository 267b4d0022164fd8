"""Deferral curves, costs and reports: what a cascade is worth."""

from keras_cascade.evaluation.costs import Costs
from keras_cascade.evaluation.deferral_curve import (
    DeferralCurve,
    deferral_curve,
)
from keras_cascade.evaluation.judged import Judged

__all__ = ["Costs", "DeferralCurve", "Judged", "deferral_curve"]
