"""What one forward pass of each model costs, with a unit."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Costs:
    """Cost of one example for each model, in one unit.

    Attributes:
        student: float >= 0.
        teacher: float > 0.
        unit: str, such as `"teacher passes"`, `"ms"`, `"EUR"`.
        how_measured: str, one sentence.
    """

    student: float
    teacher: float
    unit: str
    how_measured: str

    def __post_init__(self):
        valid = (
            math.isfinite(self.student)
            and math.isfinite(self.teacher)
            and self.student >= 0
            and self.teacher > 0
        )
        if not valid:
            raise ValueError(
                "Expected a student cost >= 0 and a teacher cost > 0. "
                f"Received: {self.student} and {self.teacher}."
            )

    def amortized(self, delegation_rate):
        """`c_student + d·c_teacher`: the student runs on every example.

        Example:

        >>> import keras_cascade as kc
        >>> costs = kc.evaluation.Costs(0.1, 1.0, "teacher passes", "given")
        >>> round(costs.amortized(0.25), 3)
        0.35
        """
        return self.student + delegation_rate * self.teacher
