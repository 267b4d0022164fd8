"""Calibration examples, counted at every candidate threshold."""

import functools
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from keras_cascade.evaluation.deferral_curve import curve_of
from keras_cascade.evaluation.effective_examples import effective_examples
from keras_cascade.evaluation.sorted_examples import SortedExamples
from keras_cascade.utils.validation import check_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keras_cascade.evaluation.costs import Costs


class CalibrationSample:
    """Calibration examples, counted at every candidate threshold.

    Point estimates use the examples' weights. A guarantee needs examples that
    come as often as in deployment: `counted` are drawn from the weighted ones
    by rejection, each kept with the probability `weight / largest weight`, so
    that exact tests hold for the traffic that the weights describe. Bets on
    the mean of a loss that is a fraction have the weights in them, and rest on
    every example (`scaled_weight`).

    Args:
        scores: float array `(examples,)`, higher = the student is surer.
        student_correct: bool array `(examples,)`, or float array in [0, 1].
        teacher_correct: bool array `(examples,)`, or float array in [0, 1].
        sample_weight: optional float array `(examples,)`, non-negative.
            Defaults to `None`.
        costs: optional `keras_cascade.evaluation.Costs`. Defaults to `None`.
        labels: optional int array `(examples,)`, the right classes. Defaults
            to `None`.
        seed: int, of the rejection. Defaults to `0`.
        max_weight: float, the largest weight that deployment can have.
            Defaults to `None`: the largest of `sample_weight`.
        classes: int, number of classes, where it is known. Defaults to
            `None`.
        student_labels: optional int array `(examples,)`, the student's
            classes. Defaults to `None`.
        teacher_labels: optional int array `(examples,)`, the teacher's
            classes. Defaults to `None`.
        class_names: optional list of str in label order. Defaults to `None`.
        any_scores: bool. Accepts the same score for all examples. Defaults
            to `False`.

    Attributes:
        examples: `SortedExamples`.
        curve: `DeferralCurve` of the weighted examples.
        is_fractional: bool, true where qualities are fractions in [0, 1], not
            right or wrong.
        counted: bool array `(examples,)`, sorted: examples that guarantees
            count.
        trials: int, number of counted examples.
        effective_examples: float, Kish's `(Σw)² / Σw²`.
    """

    def __init__(
        self,
        scores: npt.ArrayLike,
        student_correct: npt.ArrayLike,
        teacher_correct: npt.ArrayLike,
        sample_weight: npt.ArrayLike | None = None,
        costs: "Costs | None" = None,
        labels: npt.ArrayLike | None = None,
        seed: int = 0,
        max_weight: float | None = None,
        classes: int | None = None,
        student_labels: npt.ArrayLike | None = None,
        teacher_labels: npt.ArrayLike | None = None,
        class_names: "Sequence[str] | None" = None,
        any_scores: bool = False,
    ):
        self.examples = SortedExamples(
            scores, student_correct, teacher_correct, sample_weight
        )
        self.is_fractional = self.examples.is_fractional
        distinct = self.examples.distinct
        if len(distinct) == 1 and not any_scores:
            raise ValueError(
                "Expected scores that tell examples apart. Received: the "
                f"same score, {distinct[0]}, for all {len(self.examples)} "
                "examples. No threshold can separate them: choose another "
                "gate, or look for a student whose outputs do not change."
            )
        self.curve = curve_of(self.examples)
        self.costs = costs
        self.labels = labels
        self.classes = classes
        self.class_names = class_names
        self._predictions = {
            "student_labels": student_labels,
            "teacher_labels": teacher_labels,
        }
        weight = self.examples.weight
        self.effective_examples = float(len(self.examples))
        self._draw = None
        if max_weight is not None:
            max_weight = check_number(
                "max_weight", max_weight, 0.0, float("inf")
            )
        self._max_weight = max_weight
        if weight is not None:
            self.effective_examples = effective_examples(weight)
            draw = np.random.default_rng(seed).random(len(weight))
            self._draw = draw[self.examples.order]
        everyone = np.ones(len(self.examples), dtype=bool)
        self.counted = self.counted_among(everyone)
        self.trials = int(self.counted.sum())

    def counted_among(self, rows: np.ndarray) -> np.ndarray:
        """Mask of those among sorted `rows` that guarantees count.

        Within a group only the weights of the group matter: the rejection
        drops fewer of its examples than of all.

        Args:
            rows: bool array `(examples,)`, sorted, with some weight.
        """
        if self._draw is None:
            return rows
        weight = self.examples.weight
        largest = weight[rows].max()
        if self._max_weight is not None:
            if largest > self._max_weight:
                raise ValueError(
                    "Expected no weight above `max_weight`. Received: "
                    f"{largest}, above {self._max_weight}."
                )
            largest = self._max_weight
        return rows & (self._draw < weight / largest)

    def scaled_weight(
        self, rows: np.ndarray | None = None
    ) -> np.ndarray | None:
        """Sorted weights divided by the largest that deployment can have.

        float array `(examples,)` in [0, 1] within `rows`, `None` without
        weights.

        Args:
            rows: bool array `(examples,)`, sorted, the examples that come.
                Defaults to `None`: all.
        """
        weight = self.examples.weight
        if weight is None:
            return None
        largest = self._max_weight
        if largest is None:
            largest = weight.max() if rows is None else weight[rows].max()
        return weight / largest

    def class_index(self, class_: int | str) -> int:
        """Index of a class that an objective names.

        Args:
            class_: int or str.

        Raises:
            ValueError: there is no such class, or names are not known.
        """
        names = None if self.class_names is None else list(self.class_names)
        if isinstance(class_, str):
            if names is not None and class_ in names:
                return names.index(class_)
            raise ValueError(
                f"Expected the name of a class, or its index. Received: "
                f"{class_!r}, and "
                + (
                    "the names of the classes are not known here: give the "
                    "index."
                    if names is None
                    else f"the classes are {_shortened(names)}."
                )
            )
        classes = self.classes or (len(names) if names else None)
        if class_ < 0 or (classes is not None and class_ >= classes):
            raise ValueError(
                "Expected the index of a class, from 0 to "
                f"{'the last' if classes is None else classes - 1}. Received: "
                f"{class_}."
            )
        return class_

    def labels_sorted(self, objective: object) -> np.ndarray:
        """Right labels of the sorted examples, int array `(examples,)`.

        Args:
            objective: named in the error where there are none.
        """
        return self._sorted("labels", self.labels, objective)

    def predictions_sorted(
        self, objective: object
    ) -> tuple[np.ndarray, np.ndarray]:
        """Classes that student and teacher predict, of sorted examples.

        Args:
            objective: named in the error where they are not known.
        """
        student, teacher = (
            self._sorted(name, values, objective)
            for name, values in self._predictions.items()
        )
        return student, teacher

    def answers_of(
        self, objective: object, class_: int | str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Masks of the sorted examples that student and teacher give a class.

        Args:
            objective: named in the error where this is not known.
            class_: int or str.
        """
        student, teacher = self.predictions_sorted(objective)
        index = self.class_index(class_)
        return student == index, teacher == index

    def _sorted(self, name, values, objective):
        if values is None:
            raise ValueError(
                f"{objective} needs `labels`, `student_labels` and "
                f"`teacher_labels`, the classes of each calibration example. "
                f"Received none for `{name}`."
            )
        column = np.asarray(values).reshape(-1)
        if len(column) != len(self.examples) or column.dtype.kind not in "iu":
            raise ValueError(
                f"Expected `{name}` as {len(self.examples)} integers, one for "
                f"each example. Received: {len(column)} of type "
                f"{column.dtype}."
            )
        return column[self.examples.order]

    @functools.cached_property
    def delegated(self) -> np.ndarray:
        """int array `(candidates,)`: counted examples that are delegated."""
        return self.examples.delegated(self.counted)

    @functools.cached_property
    def negative_flips(self) -> np.ndarray:
        """Counted examples kept with the student wrong and the teacher right.

        int array `(candidates,)`. Of right and wrong only.
        """
        e = self._right_or_wrong("negative flips")
        return e.kept(self.counted & ~e.student & e.teacher)

    @functools.cached_property
    def positive_flips(self) -> np.ndarray:
        """Counted examples kept with the student right and the teacher wrong.

        int array `(candidates,)`. Of right and wrong only.
        """
        e = self._right_or_wrong("positive flips")
        return e.kept(self.counted & e.student & ~e.teacher)

    @functools.cached_property
    def correct(self) -> np.ndarray:
        """int array `(candidates,)`: counted examples answered right.

        Of right and wrong only.
        """
        return self.correct_among(self.counted)

    def correct_among(self, rows: np.ndarray) -> np.ndarray:
        """Number of sorted `rows` answered right at each candidate."""
        e = self._right_or_wrong("right answers")
        return e.kept(rows & e.student) + e.delegated(rows & e.teacher)

    def _right_or_wrong(self, counted):
        """The sorted examples, or an error where they are fractions."""
        if self.is_fractional:
            raise ValueError(
                f"Expected `student_correct` and `teacher_correct` of right "
                f"and wrong to count {counted}. Received: fractions, which "
                "are tested by their mean "
                "(`keras_cascade.calibration.quality_tests`)."
            )
        return self.examples


def _shortened(names, most=10):
    """A list of names in words, with its first ones only."""
    listed = ", ".join(repr(str(name)) for name in names[:most])
    return listed + (f" and {len(names) - most} more" if names[most:] else "")
