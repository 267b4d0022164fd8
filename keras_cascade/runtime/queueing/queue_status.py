"""State of a queue and of the thread that sends it."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class QueueStatus:
    """State of a cascade's queue, as of `EdgeCascade.queue_status`.

    Attributes:
        waiting: int, rows that the teacher has not answered.
        answered: int, rows whose answers nobody has taken.
        dead_letters: int, rows that were put aside.
        sending: bool, whether the thread of `send_queued_every` runs in this
            process.
        error: the exception that ended the last round of sending early, or
            `None`.
    """

    waiting: int
    answered: int
    dead_letters: int
    sending: bool
    error: Exception | None
