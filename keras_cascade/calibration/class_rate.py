"""Base class of objectives on one class's share among the answers."""

import math
import numbers
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from scipy import special, stats

from keras_cascade.calibration.exact_tests import fixed_sequence_test
from keras_cascade.calibration.objective import CHOSEN_AFTERWARDS, Objective
from keras_cascade.utils.validation import check_number

if TYPE_CHECKING:
    from keras_cascade.calibration.calibration_sample import CalibrationSample


class ClassEvents(NamedTuple):
    """Masks of the sorted examples that count, for the answers of each model.

    Attributes:
        student_counts: bool array `(examples,)`, the denominator where the
            student answers.
        student_events: bool array, the numerator there; a part of it.
        teacher_counts: bool array, the denominator where the teacher answers.
        teacher_events: bool array, the numerator there.
    """

    student_counts: np.ndarray
    student_events: np.ndarray
    teacher_counts: np.ndarray
    teacher_events: np.ndarray


class ClassRate(Objective):
    """Objective on a share `events / counts` of the cascade's answers.

    At each threshold both are summed over kept examples, with the student's
    answers, and delegated ones, with the teacher's. Without a confidence the
    share of weights is compared with the limit. With one, an exact binomial
    test of each threshold, from delegating everything down: given the number
    of counts, events are binomial, also where that number depends on the
    threshold, so that each test is valid by itself and fixed-sequence
    testing needs no correction.

    A subclass implements `events(sample)`, and sets `quantity`, `side`,
    `limit` and `counted_as`.

    Args:
        class_: int or str, the class by index or by name.
        limit: float in [0, 1].
        confidence: float in (0, 1), or `None`. Defaults to `None`.
    """

    #: What the denominator counts, in words with the class in braces.
    counted_as = ""

    #: True where the denominator does not depend on the answers.
    fixed_counts = True

    def __init__(
        self, class_: int | str, limit: float, confidence: float | None = None
    ):
        super().__init__(confidence)
        whole = isinstance(class_, numbers.Integral)
        if isinstance(class_, bool) or not (whole or isinstance(class_, str)):
            raise ValueError(
                "Expected a class by its index, an integer, or by its name, a "
                f"string. Received: {class_!r}."
            )
        self.class_ = int(class_) if whole else class_
        name = cast("str", self.limit)
        setattr(self, name, check_number(name, limit, 0.0, 1.0))

    def events(self, sample: "CalibrationSample", is_class: np.ndarray):
        """Counts and events among the sorted examples.

        Args:
            sample: `CalibrationSample` with `answers_of`.
            is_class: bool array `(examples,)`, sorted: the right label is
                the class.

        Returns:
            `ClassEvents`.
        """
        raise NotImplementedError(f"{type(self).__name__}.events")

    def check_sample(self, sample: "CalibrationSample") -> None:
        is_class = self._is_class(sample)
        weight = sample.examples.weight
        present = is_class if weight is None else is_class & (weight > 0)
        if not present.any():
            raise ValueError(
                f"{self} is about class {self.class_!r}, of which there is no "
                f"example among the {len(is_class)} calibration examples. "
                "Expected: some of them. Collect examples of this class."
            )

    def meets(self, sample: "CalibrationSample") -> np.ndarray:
        limit = getattr(self, cast("str", self.limit))
        if self.confidence is None:
            share = self._shares(sample)
            if self.side == "at_least":
                return share >= limit - 1e-12
            return share <= limit + 1e-12
        events, counts = self._tested_counts(sample)
        if self.side == "at_least":  # P(Binomial(counts, limit) >= events)
            p_value = special.bdtrc(events - 1, counts, limit)
        else:
            p_value = special.bdtr(events, counts, limit)
        return fixed_sequence_test((counts > 0) & (p_value <= self.error))

    def guarantees(
        self, sample: "CalibrationSample | None" = None
    ) -> list[dict[str, Any]]:
        return [
            {**guarantee, "class": self.class_}
            for guarantee in super().guarantees(sample)
        ]

    def error_message(self, sample: "CalibrationSample") -> str:
        counted = self.counted_as.format(self.class_)
        if self.confidence is None:
            share, rate = self._shares(sample), sample.curve.delegation_rate
            if np.isnan(share).all():
                return (
                    f"{self} cannot be met: neither model gives any of the "
                    f"{len(sample.examples)} calibration examples the class "
                    f"{self.class_!r}."
                )
            best = np.nanargmax if self.side == "at_least" else np.nanargmin
            at = int(best(share))
            return (
                f"{self} cannot be met. Attainable on these "
                f"{len(sample.examples)} calibration examples: at best "
                f"{share[at]:.4f} of {counted}, at delegation rate "
                f"{rate[at]:.4f} (student alone {share[0]:.4f}, teacher alone "
                f"{share[-1]:.4f}). Ask for that, or train a better teacher."
            )
        events, counts = (
            int(column[-1]) for column in self._tested_counts(sample)
        )
        if not counts:
            return (
                f"{self} cannot be guaranteed: there are no {counted} among "
                f"the {sample.trials} calibration examples that count, with "
                "everything delegated. Collect more examples."
            )
        shown = self._shown(events, counts)
        side = "at least" if self.side == "at_least" else "at most"
        return (
            f"{self} cannot be guaranteed: with everything delegated, "
            f"{events} of {counts} {counted} show a share of {side} "
            f"{shown:.4f}. Ask for that, collect more examples, or train a "
            f"better teacher. {CHOSEN_AFTERWARDS}"
        )

    def get_config(self) -> dict[str, Any]:
        limit = cast("str", self.limit)
        return {
            "class_": self.class_,
            limit: getattr(self, limit),
            **super().get_config(),
        }

    def _is_class(self, sample):
        index = sample.class_index(self.class_)
        return sample.labels_sorted(self) == index

    def _shares(self, sample):
        events = self.events(sample, self._is_class(sample))
        weight = sample.examples.weight
        counts, share = (
            _along(
                sample, *(m if weight is None else m * weight for m in masks)
            )
            for masks in (
                (events.student_counts, events.teacher_counts),
                (events.student_events, events.teacher_events),
            )
        )
        # Sums of weights leave a rest in the place of 0.
        defined = counts > 1e-12 * max(float(counts.max()), 1e-300)
        return np.divide(
            share, counts, out=np.full(len(counts), np.nan), where=defined
        )

    def _tested_counts(self, sample):
        """`(events, counts)` at each candidate, of examples that count."""
        events = self.events(sample, self._is_class(sample))
        rows = sample.counted
        if self.fixed_counts and events.student_counts.any():
            rows = sample.counted_among(events.student_counts)
        masks = [mask & rows for mask in events]
        return (
            _along(sample, masks[1], masks[3]),
            _along(sample, masks[0], masks[2]),
        )

    def _shown(self, events, counts):
        """Clopper and Pearson's limit, rounded to the safe side."""
        if self.side == "at_least":
            if not events:
                return 0.0
            shown = stats.beta.ppf(self.error, events, counts - events + 1)
            return math.floor(1e4 * shown) / 1e4
        if events == counts:
            return 1.0
        shown = stats.beta.ppf(1 - self.error, events + 1, counts - events)
        return math.ceil(1e4 * shown) / 1e4


def _along(sample, of_student, of_teacher):
    """Sum at each candidate, of kept and of delegated examples."""
    examples = sample.examples
    return examples.kept(of_student) + examples.delegated(of_teacher)
