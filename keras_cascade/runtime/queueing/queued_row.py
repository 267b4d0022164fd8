"""One delegated example, kept on disk."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class QueuedRow:
    """A row of the queue.

    Attributes:
        id: str, the row's name in predictions.
        inputs: dict of input name to array, without a batch axis. Text is a
            `str` in an array of dtype `object`.
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
