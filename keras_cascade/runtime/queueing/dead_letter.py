"""Rows that were put aside, to be looked at by a person."""

from __future__ import annotations

import dataclasses

import numpy as np

#: The teacher, its identity proven, does not take the inputs.
REFUSED = "refused"
#: The teacher failed on the row alone too often, while it answered others.
FAILED = "failed"
#: The row's bytes differ from those that were stored.
DAMAGED = "damaged"


@dataclasses.dataclass(frozen=True, eq=False)
class DeadLetter:
    """A queued row that was put aside, with its inputs.

    It is stored until it is put back with `requeue`, or deleted with `drop`.

    Attributes:
        id: str, the row's name in predictions.
        reason: str. `"refused"`: the teacher, its identity proven, does not
            take the inputs. `"failed"`: the teacher failed on this row alone
            too often, while it answered others. `"damaged"`: the stored bytes
            were altered.
        error_message: str, the last error.
        tries: int, how often the teacher failed on this row alone.
        inputs: dict of input name to array, without a batch axis; `None`
            where they are damaged.
        raw: bytes of the inputs, as they are stored.
    """

    id: str
    reason: str
    error_message: str
    tries: int
    inputs: dict[str, np.ndarray] | None
    raw: bytes
