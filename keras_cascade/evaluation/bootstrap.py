"""How far a deferral curve would move on other examples of the same kind."""

import numpy as np

from keras_cascade.errors import UndefinedMetricError
from keras_cascade.evaluation.deferral_score import NO_BETTER_ORDER
from keras_cascade.evaluation.resampled_curve import ResampledCurve
from keras_cascade.evaluation.resampling import (
    check_plan,
    measure_resamples,
    percentile_interval,
)
from keras_cascade.evaluation.sample_weights import check_weight
from keras_cascade.evaluation.sorted_examples import SortedExamples


def bootstrap_curve(
    scores,
    student_correct,
    teacher_correct,
    sample_weight=None,
    threshold=None,
    rates=None,
    confidence=0.95,
    resamples=1000,
    seed=0,
):
    """Bands around the deferral curve and intervals of its numbers.

    Percentile bootstrap over the examples, weights carried along. It says how
    much the finite test set matters, with models and threshold as they are;
    not what another training run would give. The bands hold point by point,
    not for the whole curve at once. Examples of weight zero are left out.

    Args:
        scores: float array `(examples,)`, higher = surer.
        student_correct: bool array `(examples,)`.
        teacher_correct: bool array `(examples,)`.
        sample_weight: optional float array `(examples,)`, non-negative.
            Defaults to `None`.
        threshold: optional float. Delegate when `score < threshold`. Defaults
            to `None`.
        rates: optional float array in [0, 1], delegation rates of the bands.
            Defaults to `None`: 0, 0.01 ... 1.
        confidence: float in (0, 1). Defaults to `0.95`.
        resamples: int. Defaults to `1000`.
        seed: int. Defaults to `0`.

    Returns:
        JSON-compatible dict: `band` (`delegation_rate`, `accuracy` at the
        highest attainable rate up to it, `low`, `high`: lists); `area` and
        `score` (`value`, `low`, `high`); `accuracy` and `delegation_rate`
        (the same, at the threshold); `undefined`, a dict of what is `None`
        and why; `confidence`, `resamples`, `seed`.

    Example:

    >>> import keras_cascade as kc
    >>> measured = kc.evaluation.bootstrap_curve(
    ...     scores=[0.1, 0.2, 0.5, 0.9],
    ...     student_correct=[False, True, False, True],
    ...     teacher_correct=[True, True, True, True],
    ...     threshold=0.3,
    ... )
    >>> measured["delegation_rate"]
    {'value': 0.5, 'low': 0.0, 'high': 1.0}
    """
    check_plan(confidence, resamples)
    rates = check_rates(np.linspace(0, 1, 101) if rates is None else rates)
    columns = with_weight(
        scores, student_correct, teacher_correct, sample_weight
    )
    curve = ResampledCurve(*columns, rates, threshold)
    (values,) = measure_resamples([curve], resamples, seed)
    band = percentile_interval(values.pop("accuracy_at"), confidence)
    report = {
        "band": {
            "delegation_rate": rates.tolist(),
            **{
                name: part.tolist()
                for name, part in zip(
                    ("accuracy", "low", "high"), band, strict=True
                )
            },
        },
        "undefined": {},
        "confidence": float(confidence),
        "resamples": int(resamples),
        "seed": seed,
    }
    for name in ("area", "score", "accuracy", "delegation_rate"):
        report[name] = None
        if name not in values:
            report["undefined"][name] = "no threshold is given"
            continue
        try:
            interval = percentile_interval(
                values[name], confidence, NO_BETTER_ORDER
            )
        except UndefinedMetricError as error:
            report["undefined"][name] = str(error)
        else:
            report[name] = dict(
                zip(("value", "low", "high"), map(float, interval), strict=True)
            )
    return report


def check_rates(rates):
    """Delegation rates as a float64 array, or an error."""
    rates = np.asarray(rates, dtype="float64")
    usable = rates.ndim == 1 and rates.size > 0
    if not (usable and ((rates >= 0) & (rates <= 1)).all()):
        raise ValueError(
            "Expected delegation rates between 0 and 1. Received: "
            f"{rates.tolist()}."
        )
    return rates


def with_weight(scores, student_correct, teacher_correct, sample_weight):
    """The examples whose weight is not zero, checked.

    Returns:
        `scores`, `student_correct`, `teacher_correct` and `sample_weight` as
        arrays.
    """
    SortedExamples(scores, student_correct, teacher_correct, sample_weight)
    scores = np.asarray(scores)
    weight = check_weight(sample_weight, len(scores))
    counts = weight > 0
    return (
        scores[counts],
        np.asarray(student_correct, dtype=bool)[counts],
        np.asarray(teacher_correct, dtype=bool)[counts],
        weight[counts],
    )
