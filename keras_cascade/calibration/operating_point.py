"""One threshold, with what was measured at it."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class OperatingPoint:
    """A threshold and what calibration measured at it.

    Attributes:
        threshold: float. Delegate when `score < threshold`.
        delegation_rate: float in [0, 1].
        accuracy: float in [0, 1], of the cascade.
        student_accuracy: float in [0, 1], of the student on every example.
        teacher_accuracy: float in [0, 1], of the teacher on every example.
        accuracy_drop: float, teacher accuracy minus cascade accuracy;
            negative where the cascade is better.
        accuracy_drop_bound: float or `None`. What the drop stays below with
            the stated confidence; `None` for an empirical objective, which
            promises nothing.
        objective: dict, class name and config of what was asked for; `None`
            for a threshold that was set by hand.
        confidence: float or `None` (empirical).
        examples: int, number of calibration examples.
        amortized_cost: float or `None` (no costs known).
        name: str. Defaults to `"default"`.
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

    def to_dict(self):
        """A JSON-compatible dict."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values):
        """The inverse of `to_dict`."""
        return cls(**values)
