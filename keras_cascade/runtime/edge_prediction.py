"""Predictions of the edge runtime, with their sources and latency."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import NamedTuple

import numpy as np

#: Sources of rows that student or teacher answered.
ANSWERED = ("edge", "cloud", "edge_fallback")


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


@dataclasses.dataclass(frozen=True, eq=False)
class EdgePrediction:
    """Predictions with one row per example, in the order of the inputs.

    Of a task that is not one class per example, labels and answers have its
    shape. `answered` says where a label is one.

    Attributes:
        labels: int array `(rows,)`; -1 where nobody answered. With a softmax
            over the last of several axes int `(rows, ...)`, -1 likewise; with
            a sigmoid for each label bool `(rows, labels)`, probability of at
            least 0.5, all `False` where nobody answered; of a regression the
            values, float32, NaN where nobody answered.
        probabilities: float32 array `(rows, classes)`, from whoever answered;
            the student's where nobody did; NaN of a damaged queued row.
            `None` of a regression.
        score: float32 array `(rows,)`, the gate's; higher = surer.
        source: str array `(rows,)`: `"edge"` (kept), `"cloud"` (answered by
            the teacher), `"edge_fallback"` (delegated, but the student
            answered because the teacher could not), `"abstained"`,
            `"queued"` (kept on disk for the teacher) or `"refused"` (a queued
            row that became a dead letter).
        classes: list of str, the class names in label order; the names of
            labels, or of values.
        teacher_error: str or `None`. Why delegated rows were not answered by
            the teacher.
        operating_point: str, the name of the operating point that decided.
        latency: `Latency` or `None`.
        ids: list with a str for each queued row and `None` for every other,
            or `None` where no row was queued.
        truncated: bool array `(rows,)`, which texts were longer than the
            student reads, and were cut for it; `None` of other inputs.
        values: float32 array `(rows, values)` of a regression, as
            `probabilities` of other tasks; `None` of those.
    """

    labels: np.ndarray
    probabilities: np.ndarray | None
    score: np.ndarray
    source: np.ndarray
    classes: list[str]
    teacher_error: str | None = None
    operating_point: str = "default"
    latency: Latency | None = None
    ids: list[str | None] | None = None
    truncated: np.ndarray | None = None
    values: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def names(self) -> list:
        """List of class names, one per row; `None` where nobody answered.

        With several labels per example a row is the list of the names of its
        labels; of several axes an array of names; of a regression a dict of
        name to value.
        """
        if self.labels.ndim == 1 and self.labels.dtype.kind == "i":
            return [None if i < 0 else self.classes[i] for i in self.labels]
        return [
            self._names_of(row) if answered else None
            for row, answered in zip(self.labels, self.answered, strict=True)
        ]

    @property
    def answered(self) -> np.ndarray:
        """Bool array `(rows,)`: true where student or teacher answered."""
        return np.isin(self.source, ANSWERED)

    @property
    def delegation_rate(self) -> float:
        """Share of rows that the gate sent to the teacher."""
        return float((self.source != "edge").mean())

    def _names_of(self, labels):
        if labels.dtype.kind == "i":
            return np.array(self.classes, object)[labels]
        if labels.dtype.kind == "f" and labels.ndim == 1:
            pairs = zip(self.classes, labels.tolist(), strict=True)
            return dict(pairs)
        if labels.dtype.kind == "f":
            return labels
        return [self.classes[one] for one in np.flatnonzero(labels)]

    @property
    def source_counts(self) -> dict[str, int]:
        """Dict of `source` to its number of rows, the most frequent first."""
        return dict(Counter(self.source.tolist()).most_common())
