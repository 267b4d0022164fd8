"""Evaluation: deferral curves, metrics, costs, intervals and comparisons."""

from keras_cascade.errors import UndefinedMetricError
from keras_cascade.evaluation.auroc import (
    auroc_delegating_helps,
    auroc_student_right,
)
from keras_cascade.evaluation.bootstrap import bootstrap_curve
from keras_cascade.evaluation.comparison import compare
from keras_cascade.evaluation.costs import Costs
from keras_cascade.evaluation.deferral_curve import (
    DeferralCurve,
    deferral_curve,
)
from keras_cascade.evaluation.deferral_score import (
    deferral_area,
    deferral_score,
    oracle_curve,
    random_area,
)
from keras_cascade.evaluation.delegated_at import delegated_at
from keras_cascade.evaluation.effective_examples import effective_examples
from keras_cascade.evaluation.example_results import ExampleResults
from keras_cascade.evaluation.flops import costs_from_flops
from keras_cascade.evaluation.out_of_distribution import (
    OODDetection,
    out_of_distribution,
    threshold_against,
)
from keras_cascade.evaluation.per_class import per_class, worst_class
from keras_cascade.evaluation.reliability import (
    Reliability,
    expected_calibration_error,
    reliability_diagram,
)
from keras_cascade.evaluation.selective_accuracy import (
    SelectiveAccuracy,
    selective_accuracy,
)
from keras_cascade.evaluation.selective_risk import augrc, aurc
from keras_cascade.evaluation.summary import summarize

__all__ = [
    "Costs",
    "DeferralCurve",
    "ExampleResults",
    "OODDetection",
    "Reliability",
    "SelectiveAccuracy",
    "UndefinedMetricError",
    "augrc",
    "aurc",
    "auroc_delegating_helps",
    "auroc_student_right",
    "bootstrap_curve",
    "compare",
    "costs_from_flops",
    "deferral_area",
    "deferral_curve",
    "deferral_score",
    "delegated_at",
    "effective_examples",
    "expected_calibration_error",
    "oracle_curve",
    "out_of_distribution",
    "per_class",
    "random_area",
    "reliability_diagram",
    "selective_accuracy",
    "summarize",
    "threshold_against",
    "worst_class",
]


def __dir__():
    return list(__all__)
