"""Calibration of a threshold on scored examples."""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from keras_cascade.calibration.fit_threshold import fit_threshold

if TYPE_CHECKING:
    from keras_cascade.calibration.objective import Objective
    from keras_cascade.calibration.operating_point import OperatingPoint
    from keras_cascade.evaluation.costs import Costs
    from keras_cascade.evaluation.example_results import ExampleResults
    from keras_cascade.traffic_mix import TrafficMix


def calibrate(
    results: "ExampleResults",
    objective: "Objective",
    costs: "Costs | None" = None,
    traffic: "TrafficMix | None" = None,
    seed: int = 0,
) -> "OperatingPoint":
    """Finds the threshold that meets an objective on scored examples.

    Args:
        results: `keras_cascade.evaluation.ExampleResults`, already weighted
            by `traffic`.
        objective: `Objective`.
        costs: optional `keras_cascade.evaluation.Costs`. Defaults to `None`.
        traffic: the `TrafficMix` of the weights, for the record. Defaults to
            `None`.
        seed: int, of the rejection. Defaults to `0`.

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
    )
    return dataclasses.replace(
        point, traffic=None if traffic is None else traffic.get_config()
    )
