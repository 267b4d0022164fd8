"""Thresholds on calibration examples: measured, and fitted to an objective."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from keras_cascade.calibration.calibration_sample import CalibrationSample
from keras_cascade.calibration.class_thresholds import (
    MIN_CLASS_EXAMPLES,
    fit_class_thresholds,
)
from keras_cascade.calibration.objective import NONE_COUNTED
from keras_cascade.calibration.operating_point import OperatingPoint
from keras_cascade.calibration.serialization import get
from keras_cascade.evaluation.delegated_at import delegated_at
from keras_cascade.evaluation.sorted_examples import checked_columns

if TYPE_CHECKING:
    from keras_cascade.calibration.objective import Objective
    from keras_cascade.evaluation.costs import Costs
    from keras_cascade.evaluation.example_results import ExampleResults
    from keras_cascade.traffic_mix import TrafficMix


def calibrate(
    results: "ExampleResults",
    objective: "Objective",
    costs: "Costs | None" = None,
    traffic: "TrafficMix | None" = None,
    seed: int = 0,
    *,
    class_names: Sequence[str] | None = None,
    per_class: bool = False,
    min_class_examples: int = MIN_CLASS_EXAMPLES,
) -> OperatingPoint:
    """Finds the threshold that meets an objective on scored examples.

    Args:
        results: `keras_cascade.evaluation.ExampleResults`, already weighted
            by `traffic`.
        objective: `Objective`.
        costs: optional `keras_cascade.evaluation.Costs`. Defaults to `None`.
        traffic: the `TrafficMix` of the weights, for the record. Defaults to
            `None`.
        seed: int, of the rejection. Defaults to `0`.
        class_names: as `fit_threshold`.
        per_class: as `fit_threshold`.
        min_class_examples: as `fit_threshold`.

    Returns:
        `OperatingPoint`.

    Raises:
        ValueError: the examples are all of one class, or no threshold meets
            the objective.
    """
    if results.labels is not None and len(results) > 1:
        classes = np.unique(results.labels)
        if len(classes) == 1:
            raise ValueError(
                "Expected calibration examples of several classes. Received: "
                f"{len(results)} examples, all of class {classes[0]}. Is the "
                "data sorted by class? Shuffle it before it is split."
            )
    point = fit_threshold(
        results.scores,
        results.student_correct,
        results.teacher_correct,
        objective,
        sample_weight=results.sample_weight,
        costs=costs,
        labels=results.labels,
        seed=seed,
        classes=results.classes,
        student_labels=results.student_labels,
        teacher_labels=results.teacher_labels,
        class_names=class_names,
        per_class=per_class,
        min_class_examples=min_class_examples,
        loss_name=results.loss_name,
    )
    return dataclasses.replace(
        point, traffic=None if traffic is None else traffic.get_config()
    )


def fit_threshold(
    scores: npt.ArrayLike,
    student_correct: npt.ArrayLike,
    teacher_correct: npt.ArrayLike,
    objective: "Objective | Sequence[Objective]",
    sample_weight: npt.ArrayLike | None = None,
    costs: "Costs | None" = None,
    labels: npt.ArrayLike | None = None,
    seed: int = 0,
    max_weight: float | None = None,
    classes: int | None = None,
    *,
    student_labels: npt.ArrayLike | None = None,
    teacher_labels: npt.ArrayLike | None = None,
    class_names: Sequence[str] | None = None,
    per_class: bool = False,
    min_class_examples: int = MIN_CLASS_EXAMPLES,
    loss_name: str | None = None,
) -> OperatingPoint:
    """Finds the threshold that meets an objective on calibration examples.

    The examples must have been used neither to train nor will be used to
    report: a threshold looks best on the data that chose it.

    Where answers are not simply right or wrong, as with several labels per
    example or in regression, the columns hold the quality of each answer, 1
    less a loss in [0, 1] (`kc.MaxExpectedLoss`, `kc.MaxLossIncrease`).
    "Accuracy" is then the mean quality. Columns that hold nothing but 0 and 1
    are right and wrong, whatever their type.

    Args:
        scores: float array `(examples,)`, higher = the student is surer.
        student_correct: bool array `(examples,)`, or float array in [0, 1].
        teacher_correct: bool array `(examples,)`, or float array in [0, 1].
        objective: `Objective`, or a list of them: the cheapest threshold that
            meets all.
        sample_weight: optional float array `(examples,)`, non-negative: how
            often each example comes in deployment. A guarantee then rests on
            examples drawn from them by rejection, fewer than there are, and
            takes for granted that no weight in deployment is above
            `max_weight`. Defaults to `None`.
        costs: optional `keras_cascade.evaluation.Costs`. Defaults to `None`.
        labels: optional int array `(examples,)`, for
            `MinGroupAccuracy("class", ...)`. Defaults to `None`.
        seed: int, of the rejection. Decide it beforehand: of ten seeds the
            one that delegates least broke 13.2 % of the guarantees at 95 %.
            Whoever tries k seeds asks for `1 - error / k`. Defaults to `0`.
        max_weight: float, the largest weight that can come. Rare examples
            with large weights may be missing here: say so. Defaults to
            `None`: the largest of `sample_weight`.
        classes: int, number of classes. `MinGroupAccuracy("class", ...)` with
            a confidence then refuses examples without one of them. Defaults
            to `None`: its guarantee names the classes that it is about.
        student_labels: optional int array `(examples,)`, the student's
            classes, for `per_class` and for objectives about a class or
            costs. Defaults to `None`.
        teacher_labels: optional int array `(examples,)`, the teacher's
            classes. Defaults to `None`.
        class_names: optional list of str in label order, for objectives that
            name a class. Defaults to `None`.
        per_class: bool. Fits a threshold for each class that the student
            predicts. Of the objective's limit every class has the part that
            its share of the examples is, of its error an equal part: the
            objective then holds among the examples of each predicted class,
            and so of all, with its own confidence
            (`keras_cascade.calibration.class_thresholds`). Defaults to
            `False`.
        min_class_examples: int, with `per_class`: classes predicted for fewer
            examples are pooled and share one threshold; while the pool has
            fewer itself, the rarest other class joins it. Defaults to `100`.
        loss_name: optional str, such as `"Hamming loss"`: the name of
            `1 - quality`, in texts. Defaults to `None`: accuracies.

    Returns:
        `OperatingPoint`. Its threshold is exact in the scores' precision:
        float32 scores give a float32 threshold.

    Raises:
        ValueError: bad arrays, or no threshold meets the objective; the
            message says what is attainable.

    Example:

    >>> import keras_cascade as kc
    >>> point = kc.calibration.fit_threshold(
    ...     scores=[0.1, 0.5, 0.9],
    ...     student_correct=[False, True, True],
    ...     teacher_correct=[True, True, True],
    ...     objective=kc.MinAccuracy(1.0),
    ... )
    >>> round(point.threshold, 6), round(point.delegation_rate, 3)
    (0.3, 0.333)
    """
    objective = get(objective)
    columns: dict[str, Any] = {
        "scores": scores,
        "student_correct": student_correct,
        "teacher_correct": teacher_correct,
        "sample_weight": sample_weight,
        "labels": labels,
        "student_labels": student_labels,
        "teacher_labels": teacher_labels,
    }
    shared: dict[str, Any] = {
        "costs": costs,
        "seed": seed,
        "max_weight": max_weight,
        "class_names": class_names,
    }
    sample = CalibrationSample(**columns, **shared, classes=classes)
    objective.check_sample(sample)
    trials = objective.tested_examples(sample)
    if objective.guarantees() and not trials:
        raise ValueError(f"{objective} cannot be guaranteed: {NONE_COUNTED}")
    threshold: Any
    per_class_values: dict[str, Any] = {}
    if per_class:
        predicted, teacher_classes = sample.predictions_sorted(objective)
        highest = int(max(predicted.max(), teacher_classes.max()))
        threshold, groups, trials = fit_class_thresholds(
            objective,
            columns,
            classes or highest + 1,
            _checked_count(min_class_examples),
            shared,
        )
        per_class_values = {
            "pooled_classes": groups[-1] if len(groups[-1]) > 1 else [],
            "min_class_examples": min_class_examples,
        }
    else:
        index = objective.choose(sample)
        threshold = float(sample.curve.thresholds[index])
    point = measure_threshold(
        scores,
        student_correct,
        teacher_correct,
        threshold,
        sample_weight,
        costs,
        objective.describe(),
        student_labels=student_labels,
        loss_name=loss_name,
    )
    point = dataclasses.replace(point, **per_class_values)
    guarantees = objective.guarantees(sample)
    if not guarantees:
        return dataclasses.replace(
            point, effective_examples=sample.effective_examples
        )
    if per_class:
        guarantees = [
            {**guarantee, "in_each_predicted_class": True}
            for guarantee in guarantees
        ]
    # An accuracy is 1 less a loss: an increase of this is a drop of that.
    drops = [
        guarantee["at_most"]
        for guarantee in guarantees
        if guarantee["quantity"] in ("accuracy_drop", "loss_increase")
    ]
    return dataclasses.replace(
        point,
        accuracy_drop_bound=min(drops) if drops else None,
        confidence=objective.confidence,
        guarantees=guarantees,
        effective_examples=float(trials),
    )


def _checked_count(min_class_examples):
    if not (isinstance(min_class_examples, int) and min_class_examples >= 1):
        raise ValueError(
            "Expected `min_class_examples` as a whole number of at least 1. "
            f"Received: {min_class_examples!r}."
        )
    return min_class_examples


def fit_thresholds(
    scores: npt.ArrayLike,
    student_correct: npt.ArrayLike,
    teacher_correct: npt.ArrayLike,
    objectives: "dict[str, Objective | Sequence[Objective]]",
    *,
    joint: bool = False,
    sample_weight: npt.ArrayLike | None = None,
    costs: "Costs | None" = None,
    labels: npt.ArrayLike | None = None,
    seed: int = 0,
    max_weight: float | None = None,
    classes: int | None = None,
    student_labels: npt.ArrayLike | None = None,
    teacher_labels: npt.ArrayLike | None = None,
    class_names: Sequence[str] | None = None,
    per_class: bool = False,
    min_class_examples: int = MIN_CLASS_EXAMPLES,
    loss_name: str | None = None,
) -> dict[str, OperatingPoint]:
    """Finds one threshold per operating point, each with its own objective.

    By default each guarantee is for itself: of two at 95 %, up to 10 of 100
    calibration sets break one or the other, and whoever looks at several
    points and then takes one has no 95 % guarantee of it. With `joint=True`
    the error is split over the points (union bound): k objectives at 95 %
    are each tested at `1 - 0.05 / k`, which is what their guarantees state,
    and all of them hold together with 95 %.

    Args:
        scores: as `fit_threshold`.
        student_correct: as `fit_threshold`.
        teacher_correct: as `fit_threshold`.
        objectives: dict of name to `Objective`, or list of them.
        joint: bool. Splits the error over the points. Defaults to `False`.
        sample_weight: as `fit_threshold`.
        costs: as `fit_threshold`.
        labels: as `fit_threshold`.
        seed: as `fit_threshold`.
        max_weight: as `fit_threshold`.
        classes: as `fit_threshold`.
        student_labels: as `fit_threshold`.
        teacher_labels: as `fit_threshold`.
        class_names: as `fit_threshold`.
        per_class: as `fit_threshold`.
        min_class_examples: as `fit_threshold`.
        loss_name: as `fit_threshold`.

    Returns:
        Dict of name to `OperatingPoint`.

    Raises:
        ValueError: as `fit_threshold`.

    Example:

    >>> import numpy as np
    >>> import keras_cascade as kc
    >>> scores = np.arange(1000) / 1000
    >>> points = kc.calibration.fit_thresholds(
    ...     scores, scores > 0.1, np.ones(1000, bool),
    ...     {
    ...         "exact": kc.MaxAccuracyDrop(0.01, confidence=0.95),
    ...         "cheap": kc.MaxAccuracyDrop(0.05, confidence=0.95),
    ...     },
    ...     joint=True,
    ... )
    >>> points["exact"].confidence
    0.975
    """
    made = joint_objectives(objectives) if joint else objectives
    return {
        name: dataclasses.replace(
            fit_threshold(
                scores, student_correct, teacher_correct, objective,
                sample_weight, costs, labels, seed, max_weight, classes,
                student_labels=student_labels, teacher_labels=teacher_labels,
                class_names=class_names, per_class=per_class,
                min_class_examples=min_class_examples, loss_name=loss_name,
            ),
            name=name,
        )
        for name, objective in made.items()
    }  # fmt: skip


def joint_objectives(objectives):
    """Splits the error over those of several objectives that guarantee.

    Args:
        objectives: dict of name to objective, or list of objectives.

    Returns:
        Dict of name to `Objective`.
    """
    objectives = {name: get(one) for name, one in objectives.items()}
    parts = sum(bool(one.guarantees()) for one in objectives.values())
    return {
        name: one.with_error_split(max(parts, 1))
        for name, one in objectives.items()
    }


def measure_threshold(
    scores: npt.ArrayLike,
    student_correct: npt.ArrayLike,
    teacher_correct: npt.ArrayLike,
    threshold: float | Sequence[float],
    sample_weight: npt.ArrayLike | None = None,
    costs: "Costs | None" = None,
    objective: dict[str, Any] | None = None,
    *,
    student_labels: npt.ArrayLike | None = None,
    loss_name: str | None = None,
) -> OperatingPoint:
    """Measures accuracy, delegation rate and cost at one threshold.

    Args:
        scores: float array `(examples,)`, higher = the student is surer.
        student_correct: bool array `(examples,)`, or float array in [0, 1].
        teacher_correct: bool array `(examples,)`, or float array in [0, 1].
        threshold: float. Delegate when `score < threshold`. Or one float
            for each class that the student predicts.
        sample_weight: optional float array `(examples,)`, non-negative.
            Defaults to `None`.
        costs: optional `keras_cascade.evaluation.Costs`. Defaults to `None`.
        objective: optional dict, the serialized objective that chose the
            threshold. Defaults to `None`.
        student_labels: int array `(examples,)`, the student's classes, with
            one threshold for each. Defaults to `None`.
        loss_name: as `fit_threshold`. Defaults to `None`.

    Returns:
        `OperatingPoint`.

    Example:

    >>> import keras_cascade as kc
    >>> point = kc.calibration.measure_threshold(
    ...     scores=[0.1, 0.5, 0.9],
    ...     student_correct=[False, True, True],
    ...     teacher_correct=[True, True, True],
    ...     threshold=0.3,
    ... )
    >>> point.accuracy
    1.0
    """
    scores, student, teacher, sample_weight = checked_columns(
        scores, student_correct, teacher_correct, sample_weight
    )
    delegated = delegated_at(scores, threshold, student_labels)

    def share(values):
        return float(np.average(values, weights=sample_weight))

    rate = share(delegated)
    accuracy = share(np.where(delegated, teacher, student))
    teacher_accuracy = share(teacher)
    per_class = np.ndim(threshold) > 0
    return OperatingPoint(
        threshold=float(np.max(threshold)),
        delegation_rate=rate,
        accuracy=accuracy,
        student_accuracy=share(student),
        teacher_accuracy=teacher_accuracy,
        accuracy_drop=teacher_accuracy - accuracy,
        accuracy_drop_bound=None,
        objective=objective,
        confidence=None,
        examples=len(scores),
        amortized_cost=None if costs is None else costs.amortized(rate),
        class_thresholds=(
            np.asarray(threshold, dtype="float64").tolist()
            if per_class
            else None
        ),
        loss_name=loss_name,
    )
