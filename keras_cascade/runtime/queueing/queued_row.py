"""One delegated example, kept on disk."""

import dataclasses
import io

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class QueuedRow:
    """A row of the queue.

    Attributes:
        id: str, the row's name in predictions.
        inputs: dict of input name to array, without a batch axis.
        score: float, the gate's.
        probabilities: float32 array `(classes,)`, the student's.
        operating_point: str.
        tries: int, answers so far that could not be believed.
        logits: float32 array `(classes,)`, the teacher's, or `None`.
        refusal: str or `None`, why the teacher does not take these inputs.
    """

    id: str
    inputs: dict
    score: float
    probabilities: np.ndarray
    operating_point: str
    tries: int = 0
    logits: np.ndarray | None = None
    refusal: str | None = None


def packed(arrays):
    """Arrays as bytes, one behind the other, without pickle."""
    buffer = io.BytesIO()
    for array in arrays:
        np.lib.format.write_array(buffer, np.asarray(array), allow_pickle=False)
    return buffer.getvalue()


def unpacked(raw, count):
    """The arrays that `packed` made into bytes."""
    buffer = io.BytesIO(raw)
    return [
        np.lib.format.read_array(buffer, allow_pickle=False)
        for _ in range(count)
    ]
