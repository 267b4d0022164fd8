"""What the edge runtime answers."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class EdgePrediction:
    """One row an example, in the order of the inputs.

    Attributes:
        labels: int array `(rows,)`; -1 where the runtime abstained.
        probabilities: float32 array `(rows, classes)`, from whoever answered;
            the student's where the runtime abstained.
        score: float32 array `(rows,)`, the gate's; higher = surer.
        source: str array `(rows,)`: `"edge"` (kept), `"cloud"` (answered by
            the teacher), `"edge_fallback"` (delegated, but the student
            answered because the teacher could not) or `"abstained"`.
        classes: list of str, the class names in label order.
        teacher_error: str or `None`. Why delegated rows were not answered by
            the teacher.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    score: np.ndarray
    source: np.ndarray
    classes: list
    teacher_error: str | None = None

    def __len__(self):
        return len(self.labels)

    @property
    def names(self):
        """List of class names, one a row; `None` where abstained."""
        return [None if i < 0 else self.classes[i] for i in self.labels]

    @property
    def delegation_rate(self):
        """Share of rows that the gate sent to the teacher."""
        return float((self.source != "edge").mean())
