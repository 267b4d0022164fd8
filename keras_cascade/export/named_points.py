"""Further operating points of a bundle, fitted on the file's own scores."""

import dataclasses
import re

from keras_cascade import calibration
from keras_cascade.runtime.operating_points import DEFAULT

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def checked_objectives(operating_points):
    """Dict of name to `Objective`.

    Args:
        operating_points: dict of name to objective, or list of objectives
            that are all met; or `None`.
    """
    for name in operating_points or {}:
        if name == DEFAULT or not _is_name(name):
            raise ValueError(
                "Expected names of operating points out of letters, digits, "
                "'_', '.' and '-', and not 'default', which is what "
                f"`calibrate` found. Received: {name!r}."
            )
    return {
        name: calibration.get(objective)
        for name, objective in (operating_points or {}).items()
    }


def named_points(cascade, results, objectives, allow_training_data=False):
    """The cheapest threshold of a file for each of several objectives.

    Each guarantee holds with its own confidence; that all hold at once is not
    guaranteed.

    Args:
        cascade: `Cascade`.
        results: `ExampleResults`, the student's columns of the file.
        objectives: dict of name to `Objective`.
        allow_training_data: bool. Defaults to `False`.

    Returns:
        List of `OperatingPoint`.

    Raises:
        ValueError: no threshold of the file meets one of them.
    """
    points = []
    record = cascade.data_record
    for name, objective in objectives.items():
        if objective.guarantees() and not allow_training_data:
            record.refuse(results.examples, "validation")
        try:
            point = calibration.calibrate(
                results, objective, cascade.costs, record.traffic, record.seed
            )
        except ValueError as error:
            raise ValueError(
                f"No threshold of the file that would ship meets the "
                f"operating point '{name}', so nothing was written. {error}"
            ) from error
        points.append(dataclasses.replace(point, name=name))
    return points


def _is_name(name):
    return isinstance(name, str) and NAME.fullmatch(name) is not None
