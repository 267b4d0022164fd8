"""Accuracy and delegation rate per class."""

from typing import Any

import numpy as np
import numpy.typing as npt

from keras_cascade.errors import UndefinedMetricError
from keras_cascade.utils.validation import (
    check_booleans,
    check_column,
    check_qualities,
    check_weight,
)


def per_class(
    labels: npt.ArrayLike,
    student_correct: npt.ArrayLike,
    teacher_correct: npt.ArrayLike,
    delegated: npt.ArrayLike | None = None,
    sample_weight: npt.ArrayLike | None = None,
) -> list[dict[str, Any]]:
    """Table of accuracies with one row per class.

    Args:
        labels: int array `(examples,)`, the right classes.
        student_correct: bool array `(examples,)`, or float array in [0, 1].
        teacher_correct: bool array `(examples,)`, or float array in [0, 1].
        delegated: optional bool array `(examples,)`. Defaults to `None`: the
            cascade's columns are `None`.
        sample_weight: optional float array `(examples,)`, non-negative.
            Defaults to `None`.

    Returns:
        List of dicts, by ascending class: `class`, `examples` (a count),
        `share` (of the weight), `student_accuracy`, `teacher_accuracy`,
        `cascade_accuracy` and `delegation_rate`; `None` where `delegated` is
        missing or a class has no weight.

    Example:

    >>> import keras_cascade as kc
    >>> rows = kc.evaluation.per_class(
    ...     labels=[0, 0, 1],
    ...     student_correct=[True, False, False],
    ...     teacher_correct=[True, True, False],
    ...     delegated=[False, True, True],
    ... )
    >>> rows[0]["student_accuracy"], rows[0]["cascade_accuracy"]
    (0.5, 1.0)
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.size == 0:
        raise ValueError(
            "Expected labels to hold one class an example. Received an array "
            f"of shape {labels.shape}."
        )
    rows = len(labels)
    check_column("labels", labels, rows)
    student, teacher = check_qualities(student_correct, teacher_correct, rows)
    columns = {"student_accuracy": student, "teacher_accuracy": teacher}
    if delegated is not None:
        delegated = check_booleans("delegated", delegated, rows)
        columns["cascade_accuracy"] = np.where(
            delegated, columns["teacher_accuracy"], columns["student_accuracy"]
        )
        columns["delegation_rate"] = delegated
    weight = check_weight(sample_weight, rows)
    classes, class_of, counts = np.unique(
        labels, return_inverse=True, return_counts=True
    )
    total = np.bincount(class_of, weights=weight)
    sums = {
        name: np.bincount(class_of, weights=weight * values)
        for name, values in columns.items()
    }
    names = (*columns, "cascade_accuracy", "delegation_rate")
    return [
        {
            "class": classes[c].item(),
            "examples": int(counts[c]),
            "share": float(total[c] / weight.sum()),
            **{
                name: float(sums[name][c] / total[c])
                if name in sums and total[c] > 0
                else None
                for name in names
            },
        }
        for c in range(len(classes))
    ]


def worst_class(
    table: list[dict[str, Any]], accuracy: str = "student_accuracy"
) -> dict[str, Any]:
    """Class with the lowest accuracy.

    Args:
        table: list of dicts, as `per_class` returns it.
        accuracy: str, column of the table: `"student_accuracy"`,
            `"teacher_accuracy"` or `"cascade_accuracy"`. Defaults to
            `"student_accuracy"`.

    Returns:
        Dict of `class`, `examples` and `accuracy`. Of equals, the first.

    Raises:
        UndefinedMetricError: no class has that accuracy.

    Example:

    >>> import keras_cascade as kc
    >>> table = kc.evaluation.per_class([0, 1, 1], [1, 0, 1], [1, 1, 1])
    >>> kc.evaluation.worst_class(table)
    {'class': 1, 'examples': 2, 'accuracy': 0.5}
    """
    known = [row for row in table if row[accuracy] is not None]
    if not known:
        raise UndefinedMetricError(f"no class has a {accuracy}")
    worst = min(known, key=lambda row: row[accuracy])
    return {
        "class": worst["class"],
        "examples": worst["examples"],
        "accuracy": worst[accuracy],
    }
