"""Bootstrap of the deferral curve; exact intervals where shares are rare."""

import math
import numbers
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_cascade.errors import UndefinedMetricError
from keras_cascade.evaluation.deferral_curve import ROUNDING
from keras_cascade.evaluation.deferral_score import NO_BETTER_ORDER
from keras_cascade.evaluation.delegated_at import delegated_at
from keras_cascade.evaluation.effective_examples import effective_examples
from keras_cascade.evaluation.exact_intervals import share_interval
from keras_cascade.evaluation.sorted_examples import (
    SortedExamples,
    checked_columns,
)
from keras_cascade.utils.validation import check_weight

#: With fewer errors, or fewer right answers, resamples vary too little, and
#: intervals are widened to exact ones; of weighted examples, Kish's number.
FEW, FEW_WEIGHTED = 10, 3
#: Numbers in one block of resamples: bounds the memory, about 100 MB.
BLOCK = 1_000_000


def bootstrap_curve(
    scores: npt.ArrayLike,
    student_correct: npt.ArrayLike,
    teacher_correct: npt.ArrayLike,
    sample_weight: npt.ArrayLike | None = None,
    threshold: float | None = None,
    rates: npt.ArrayLike | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Bootstrap bands of the deferral curve and intervals of its numbers.

    Percentile bootstrap over the examples, weights carried along. It measures
    how much the finite test set matters, with models and threshold as they
    are, not how much another training run would differ. The bands hold point
    by point, not for the whole curve at once. Examples of weight zero are left
    out.

    Near 0 and 1 a percentile interval is too short (at an accuracy near 1 it
    covers 67 to 87 % where 95 % is stated, and without a single error it is a
    point). What is used where:

    - `accuracy` and `delegation_rate` without weights: Clopper and Pearson's
      exact interval, always.
    - `band` and `area` without weights: the percentile interval, and with
      fewer than 10 errors or 10 right answers the wider of it and the exact
      one.
    - With weights: the same for `band`, `area`, `accuracy` and
      `delegation_rate`, with fewer than 3 effective errors or right answers
      (Kish's number times the share), of which the interval is taken.
    - `score`: the percentile interval alone; it needs some 20 examples that
      delegating helps.
    - Qualities that are fractions: `accuracy` as with weights, for a mean of
      values in [0, 1] has no exact interval; the rest as above.

    Args:
        scores: float array `(examples,)`, higher = surer.
        student_correct: bool array `(examples,)`, or float array in [0, 1].
        teacher_correct: bool array `(examples,)`, or float array in [0, 1].
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
    >>> {k: round(v, 4) for k, v in measured["delegation_rate"].items()}
    {'value': 0.5, 'low': 0.0676, 'high': 0.9324}
    """
    check_plan(confidence, resamples)
    rates = check_rates(np.linspace(0, 1, 101) if rates is None else rates)
    columns = with_weight(
        scores, student_correct, teacher_correct, sample_weight
    )
    curve = ResampledCurve(*columns, rates, threshold)
    (values,) = measure_resamples([curve], resamples, seed)
    weight = columns[-1]
    exact = _ExactEnds(weight, confidence)
    band = exact.widened(
        *percentile_interval(values.pop("accuracy_at"), confidence)
    )
    report: dict[str, Any] = {
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
            if name == "area":
                interval = exact.widened(*interval)
            elif name != "score":
                fractions = name == "accuracy" and columns[1].dtype != bool
                value, low, high = interval
                interval = exact.of_share(value, low, high, fractions)
            report[name] = dict(
                zip(("value", "low", "high"), map(float, interval), strict=True)
            )
    return report


class _ExactEnds:
    """Exact intervals in place of percentile ones where these are too short.

    Args:
        weight: float array `(examples,)`, positive.
        confidence: float in (0, 1).
    """

    def __init__(self, weight, confidence):
        self.trials = effective_examples(weight)
        self.is_weighted = bool((weight != weight[0]).any())
        self._confidence = confidence

    def of_share(self, value, low, high, is_fractional=False):
        """Interval of a share: exact without weights and fractions."""
        if self.is_weighted or is_fractional:
            return self.widened(value, low, high)
        events = round(float(value) * self.trials)
        return value, *share_interval(events, self.trials, self._confidence)

    def widened(self, value, low, high):
        """Intervals, the wider of both where one side is rare.

        Args:
            value: float or float array of shares.
            low: float or float array of the same shape.
            high: float or float array of the same shape.
        """
        few = FEW_WEIGHTED if self.is_weighted else FEW
        value, low, high = map(np.array, (value, low, high))
        rare = np.minimum(value, 1 - value) * self.trials < few
        for index in np.argwhere(rare):
            index = tuple(index)
            events = min(max(value[index], 0.0), 1.0) * self.trials
            ends = share_interval(events, self.trials, self._confidence)
            low[index] = min(low[index], ends[0])
            high[index] = max(high[index], ends[1])
        return value, low, high


class ResampledCurve:
    """Deferral curve of many resamples of the same examples at once.

    The examples are sorted once; a resample is a count for each of them.

    Args:
        scores: float array `(examples,)`, higher = surer.
        student_correct: bool array `(examples,)`, or float array in [0, 1].
        teacher_correct: bool array `(examples,)`, or float array in [0, 1].
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
        gain = teacher.astype("float64") - student
        self._gain = self._weight * gain
        #: Order of an oracle, for differences that are fractions.
        self._ideal = np.argsort(-gain) if examples.is_fractional else None
        columns = [student, np.maximum(gain, 0), np.maximum(-gain, 0)]
        if threshold is not None:
            delegated = delegated_at(scores, threshold)[self._order]
            columns += [np.where(delegated, teacher, student), delegated]
        self._columns = np.stack(columns, axis=1) * self._weight[:, None]

    def measure(self, counts):
        """Measures every resample.

        Args:
            counts: int array `(resamples, examples)`, the number of times
                that each example is drawn, in the constructor's order.

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
        student, gains, losses, *at_threshold = (
            counts @ self._columns / total
        ).T
        gained = np.cumsum(counts * self._gain, axis=1)[:, self._last_of_run]
        start = np.zeros((len(counts), 1))
        rate = np.hstack([start, delegated / total])
        gained = np.hstack([start, gained / total])
        area = student + np.trapezoid(gained, rate, axis=1)
        # Random delegation gains in proportion. The ideal one rises by
        # `gains` (only the teacher is right), stays, then falls by `losses`
        # (only the student is right): the area between the two is
        # (gains·(1 - gains) + losses·(1 - losses)) / 2.
        random = student + (gains - losses) / 2
        room = (gains * (1 - gains) + losses * (1 - losses)) / 2
        if self._ideal is not None:
            room = self._ideal_area(counts, total) - (gains - losses) / 2
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

    def _ideal_area(self, counts, total):
        """Area that an oracle gains over the student, of each resample."""
        counts = counts[:, self._ideal]
        start = np.zeros((len(counts), 1))
        rate, gained = (
            np.hstack([start, np.cumsum(counts * column, axis=1) / total])
            for column in (
                self._weight[self._ideal],
                self._gain[self._ideal],
            )
        )
        return np.trapezoid(gained, rate, axis=1)

    def _up_to_rates(self, rate, values):
        """Returns `values` of each resample at the highest rate per limit."""
        limits = self._rates + ROUNDING
        return np.stack(
            [
                row[np.searchsorted(rates, limits, side="right") - 1]
                for rates, row in zip(rate, values, strict=True)
            ]
        )


def check_plan(confidence, resamples):
    """Raises where the resamples are too few for the interval.

    Args:
        confidence: float in (0, 1).
        resamples: int.
    """
    number = isinstance(confidence, numbers.Real)
    if not (number and 0 < confidence < 1):
        raise ValueError(
            "Expected `confidence` to be a number between 0 and 1, such as "
            f"0.95. Received: {confidence!r}."
        )
    # The slack is for 2 / (1 - 0.9), which is not quite 20.
    needed = math.ceil(2 / (1 - confidence) - 1e-6)
    whole = isinstance(resamples, numbers.Integral)
    if not whole or resamples < needed:
        raise ValueError(
            f"Expected at least {needed} resamples for a confidence of "
            f"{confidence}. Received: {resamples!r}."
        )


def resampled_counts(examples, resamples, seed):
    """Draws bootstrap resamples of the examples, block by block.

    Args:
        examples: int, number of examples, and of draws per resample.
        resamples: int.
        seed: int.

    Yields:
        Int arrays `(resamples of the block, examples)`: the number of times
        that each example is drawn. The block size changes no number.
    """
    rng = np.random.default_rng(seed)
    step = max(1, BLOCK // examples)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = rng.integers(0, examples, size=(rows, examples))
        drawn += examples * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * examples).reshape(
            rows, examples
        )


def measure_resamples(curves, resamples, seed):
    """Measures several curves of the same examples on the same resamples.

    Args:
        curves: list of `ResampledCurve`.
        resamples: int.
        seed: int.

    Returns:
        List with a dict for each curve, of float arrays
        `(1 + resamples, ...)`; entry 0 is the examples themselves.
    """
    examples = curves[0].examples
    blocks = [[curve.measure(np.ones((1, examples)))] for curve in curves]
    for counts in resampled_counts(examples, resamples, seed):
        for curve, block in zip(curves, blocks, strict=True):
            block.append(curve.measure(counts))
    return [
        {name: np.concatenate([b[name] for b in block]) for name in block[0]}
        for block in blocks
    ]


def percentile_interval(values, confidence, undefined=""):
    """Percentile interval of resampled values, along the first axis.

    Args:
        values: float array `(1 + resamples, ...)`, NaN where undefined.
        confidence: float in (0, 1).
        undefined: str, the reason where the first value is undefined.

    Returns:
        Three arrays `(...)`: the first value, the lower and the upper end.

    Raises:
        UndefinedMetricError: the first value is undefined, or as many
            resampled ones as lie beyond one end of the interval. Fewer are
            left out.
    """
    value, values = values[0], values[1:]
    if np.isnan(value).any():
        raise UndefinedMetricError(undefined)
    tail = (1 - confidence) / 2
    share = np.isnan(values).mean()
    if share > tail:
        raise UndefinedMetricError(
            f"it is undefined in {share:.1%} of the resamples, too many for "
            "an interval"
        )
    return value, *np.nanquantile(values, [tail, 1 - tail], axis=0)


def check_rates(rates: npt.ArrayLike) -> np.ndarray:
    """Returns delegation rates as a float64 array, or raises."""
    rates = np.asarray(rates, dtype="float64")
    usable = rates.ndim == 1 and rates.size > 0
    if not (usable and ((rates >= 0) & (rates <= 1)).all()):
        raise ValueError(
            "Expected delegation rates between 0 and 1. Received: "
            f"{rates.tolist()}."
        )
    return rates


def with_weight(
    scores: npt.ArrayLike,
    student_correct: npt.ArrayLike,
    teacher_correct: npt.ArrayLike,
    sample_weight: npt.ArrayLike | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns the columns of the examples with a positive weight, checked.

    Returns:
        `scores`, `student_correct`, `teacher_correct` and `sample_weight` as
        arrays.
    """
    scores, student, teacher, sample_weight = checked_columns(
        scores, student_correct, teacher_correct, sample_weight
    )
    weight = check_weight(sample_weight, len(scores))
    counts = weight > 0
    return (
        scores[counts],
        student[counts],
        teacher[counts],
        weight[counts],
    )
