"""Costs of student, teacher and network, in one unit."""

import dataclasses
import math

#: Unit of costs that are numbers of weights, not counted work.
WEIGHTS = "teacher weights"


@dataclasses.dataclass(frozen=True)
class Costs:
    """Cost of one example for each model, in one unit.

    State them in money or energy, count them
    (`keras_cascade.evaluation.costs_from_flops`, the default of a cascade) or
    time them (`keras_cascade.export.costs_from_latency`).

    Attributes:
        student: float >= 0.
        teacher: float > 0.
        unit: str, such as `"teacher passes"`, `"ms"`, `"EUR"`, `"J"`.
        how_measured: str, one sentence.
        network: float >= 0, cost of reaching the teacher, per delegated
            example. Defaults to `0.0`.
        student_p99: float or `None`, where timed: 99 of 100 passes cost no
            more. Defaults to `None`.
        teacher_p99: the same of the teacher.
    """

    student: float
    teacher: float
    unit: str
    how_measured: str
    network: float = 0.0
    student_p99: float | None = None
    teacher_p99: float | None = None

    def __post_init__(self):
        numbers = (self.student, self.teacher, self.network)
        valid = (
            all(math.isfinite(number) for number in numbers)
            and self.student >= 0
            and self.teacher > 0
            and self.network >= 0
        )
        if not valid:
            raise ValueError(
                "Expected a student cost >= 0, a teacher cost > 0 and a "
                f"network cost >= 0. Received: {self.student}, "
                f"{self.teacher} and {self.network}."
            )

    @property
    def are_weights(self) -> bool:
        """True for numbers of weights in place of counted work.

        Files of 0.1.0 name them in `how_measured` only.
        """
        return self.unit == WEIGHTS or self.how_measured.startswith(
            "numbers of weights"
        )

    @property
    def delegated(self) -> float:
        """Cost of a delegated example on top of the student's."""
        return self.teacher + self.network

    def amortized(self, delegation_rate: float) -> float:
        """Mean cost per example, `c_student + d·(c_teacher + c_network)`.

        Example:

        >>> import keras_cascade as kc
        >>> costs = kc.evaluation.Costs(0.1, 1.0, "teacher passes", "given")
        >>> round(costs.amortized(0.25), 3)
        0.35
        """
        return self.student + delegation_rate * self.delegated
