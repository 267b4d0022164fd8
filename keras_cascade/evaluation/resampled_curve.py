"""Deferral curves of many resamples of the same examples at once."""

import numpy as np

from keras_cascade.evaluation.deferral_curve import ROUNDING
from keras_cascade.evaluation.sorted_examples import SortedExamples
from keras_cascade.evaluation.threshold_outcome import delegated_at


class ResampledCurve:
    """Measures the deferral curve when examples come more or less often.

    The examples are sorted once; a resample is a count for each of them.

    Args:
        scores: float array `(examples,)`, higher = surer.
        student_correct: bool array `(examples,)`.
        teacher_correct: bool array `(examples,)`.
        sample_weight: float array `(examples,)`, positive.
        rates: float array, delegation rates to look at.
        threshold: float or `None`.

    Attributes:
        examples: int.
    """

    def __init__(
        self, scores, student_correct, teacher_correct, sample_weight,
        rates, threshold,
    ):  # fmt: skip
        examples = SortedExamples(
            scores, student_correct, teacher_correct, sample_weight
        )
        self.examples = len(examples)
        everyone = np.ones(self.examples, dtype=bool)
        self._last_of_run = examples.delegated(everyone)[1:] - 1
        self._rates = np.asarray(rates, dtype="float64")
        self._order, self._weight = examples.order, examples.weight
        student, teacher = examples.student, examples.teacher
        self._gain = self._weight * (teacher.astype(int) - student)
        columns = [student, teacher & ~student, student & ~teacher]
        if threshold is not None:
            delegated = delegated_at(scores, threshold)[self._order]
            columns += [np.where(delegated, teacher, student), delegated]
        self._columns = np.stack(columns, axis=1) * self._weight[:, None]

    def measure(self, counts):
        """Measures every resample.

        Args:
            counts: int array `(resamples, examples)`, how often each example
                comes, in the order in which they were given.

        Returns:
            Dict of float arrays: `area` and `score` `(resamples,)`, `score`
            NaN where it is undefined; `accuracy_at` `(resamples, rates)`, at
            the highest attainable rate up to each; with a threshold,
            `accuracy` and `delegation_rate` `(resamples,)`.
        """
        counts = counts[:, self._order].astype("float64")
        delegated = np.cumsum(counts * self._weight, axis=1)
        delegated = delegated[:, self._last_of_run]
        total = delegated[:, -1:]
        student, saved, spoilt, *at_threshold = (
            counts @ self._columns / total
        ).T
        gained = np.cumsum(counts * self._gain, axis=1)[:, self._last_of_run]
        start = np.zeros((len(counts), 1))
        rate = np.hstack([start, delegated / total])
        gained = np.hstack([start, gained / total])
        area = student + np.trapezoid(gained, rate, axis=1)
        # Random delegation gains in proportion. The ideal one rises by
        # `saved`, stays, then falls by `spoilt`: the area between them is
        # (saved·(1 - saved) + spoilt·(1 - spoilt)) / 2.
        random = student + (saved - spoilt) / 2
        room = (saved * (1 - saved) + spoilt * (1 - spoilt)) / 2
        score = np.full(len(room), np.nan)
        np.divide(area - random, room, out=score, where=room > ROUNDING)
        measured = {
            "area": area,
            "score": score,
            "accuracy_at": student[:, None] + self._up_to_rates(rate, gained),
        }
        if at_threshold:
            measured["accuracy"], measured["delegation_rate"] = at_threshold
        return measured

    def _up_to_rates(self, rate, values):
        """Each resample's `values` at the highest rate up to each of ours."""
        limits = self._rates + ROUNDING
        return np.stack(
            [
                row[np.searchsorted(rates, limits, side="right") - 1]
                for rates, row in zip(rate, values, strict=True)
            ]
        )
