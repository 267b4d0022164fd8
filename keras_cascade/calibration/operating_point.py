"""Operating point: a threshold and its measured performance."""

import dataclasses
from typing import Any

from keras_cascade.calibration.guarantees import guarantee_sentence
from keras_cascade.utils.earlier_names import current_names


@dataclasses.dataclass(frozen=True)
class OperatingPoint:
    """Threshold with the performance that calibration measured at it.

    Attributes:
        threshold: float. Delegate when `score < threshold`.
        delegation_rate: float in [0, 1].
        accuracy: float in [0, 1], of the cascade.
        student_accuracy: float in [0, 1], of the student on every example.
        teacher_accuracy: float in [0, 1], of the teacher on every example.
        accuracy_drop: float, teacher accuracy minus cascade accuracy;
            negative where the cascade is better.
        accuracy_drop_bound: float or `None`. Upper bound of the drop with
            the stated confidence, guaranteed by `MaxAccuracyDrop` or
            `MaxLossIncrease`; `None` for an empirical objective, which
            guarantees nothing.
        objective: dict, class name and config of the objective; `None`
            for a threshold that was set by hand.
        confidence: float or `None` (empirical). With several guarantees, that
            of all of them together.
        examples: int, number of calibration examples.
        amortized_cost: float or `None` (no costs known).
        name: str. Defaults to `"default"`.
        guarantees: list of dicts, the guarantees about new examples:
            `quantity` (`"accuracy_drop"`, `"accuracy"`, `"group_accuracy"`,
            `"delegation_rate"`, `"amortized_cost"`, `"precision"`,
            `"recall"`, `"false_alarm_rate"`, `"expected_cost"`,
            `"expected_loss"` or `"loss_increase"`), `at_most` or `at_least`,
            `confidence`, where it is about one class `class`, and
            `in_each_predicted_class` where it holds there. Empty where
            nothing is.
        effective_examples: float or `None`. Number of unweighted examples that
            the numbers are worth: with guarantees, those drawn for their
            tests; without, and with bets on a mean loss, Kish's
            `(Σw)² / Σw²`.
        traffic: dict, the traffic mix that the numbers are for; `None` where
            it is the calibration examples' own.

        class_thresholds: list of float, one for each class that the student
            predicts: delegate when `score < class_thresholds[predicted]`.
            `threshold` is then the highest of them, which delegates at least
            as much. `None` where one threshold is for all classes.
        pooled_classes: list of int, the classes that share a threshold as
            each is too rare for its own; `None` without `class_thresholds`.
        min_class_examples: int, how many calibration examples a class with
            a threshold of its own is predicted for; `None` without
            `class_thresholds`.
        loss_name: str, such as `"Hamming loss"`, where an accuracy here is the
            mean of `1 - loss`: text then states the loss. `None` where it is
            the share of right answers.

    Example:

    >>> import keras_cascade as kc
    >>> print(
    ...     kc.calibration.fit_threshold(
    ...         scores=[0.1, 0.5, 0.9],
    ...         student_correct=[False, True, True],
    ...         teacher_correct=[True, True, True],
    ...         objective=kc.MinAccuracy(1.0),
    ...     )
    ... )
    Delegates 33.33 %, where the score is below 0.3.
    Accuracy 100.00 % (student 66.67 %, teacher 100.00 %) on 3 examples.
    Guaranteed of new examples: nothing.
    """

    threshold: float
    delegation_rate: float
    accuracy: float
    student_accuracy: float
    teacher_accuracy: float
    accuracy_drop: float
    accuracy_drop_bound: float | None
    objective: dict | None
    confidence: float | None
    examples: int
    amortized_cost: float | None = None
    name: str = "default"
    guarantees: list = dataclasses.field(default_factory=list)
    effective_examples: float | None = None
    traffic: dict | None = None
    class_thresholds: list | None = None
    pooled_classes: list | None = None
    min_class_examples: int | None = None
    loss_name: str | None = None

    @property
    def decision_threshold(self) -> float | tuple[float, ...]:
        """The threshold, or a tuple of one for each predicted class."""
        if self.class_thresholds is None:
            return self.threshold
        return tuple(self.class_thresholds)

    def __str__(self):
        guaranteed = (
            "; ".join(
                guarantee_sentence(one, loss_name=self.loss_name)
                for one in self.guarantees
            )
            or "nothing"
        )
        delegated = (
            f"{100 * self.delegation_rate:.2f} %, where the score is below "
            f"{self.threshold:.4g}"
        )
        if self.class_thresholds is not None:
            delegated = (
                f"{100 * self.delegation_rate:.2f} %, where the score is below "
                "the threshold of the predicted class, "
                f"{min(self.class_thresholds):.4g} to {self.threshold:.4g}"
            )
        if self.delegation_rate in (0, 1):
            delegated = "everything" if self.delegation_rate else "nothing"
        measured = (
            f"Accuracy {100 * self.accuracy:.2f} % (student "
            f"{100 * self.student_accuracy:.2f} %, teacher "
            f"{100 * self.teacher_accuracy:.2f} %)"
        )
        if self.loss_name is not None:
            measured = (
                f"{self.loss_name[:1].upper()}{self.loss_name[1:]}: "
                f"{1 - self.accuracy:.4f} (student "
                f"{1 - self.student_accuracy:.4f}, teacher "
                f"{1 - self.teacher_accuracy:.4f})"
            )
        return (
            f"Delegates {delegated}.\n"
            f"{measured} on {self.examples:,} examples.\n"
            f"Guaranteed of new examples: {guaranteed}."
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-compatible dict."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "OperatingPoint":
        """Makes an operating point from `to_dict`'s dict, of 0.1.0 as well."""
        return cls(**current_names(values))
