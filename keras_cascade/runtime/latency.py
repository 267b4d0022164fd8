"""How long an answer took, and where."""

from typing import NamedTuple


class Latency(NamedTuple):
    """Seconds of wall-clock time of one `predict`.

    Attributes:
        student: float, in the student and its gate.
        teacher: float, waiting for the teacher, retries included; `0.0`
            where nothing was delegated.
        total: float, the whole call.
    """

    student: float
    teacher: float
    total: float
