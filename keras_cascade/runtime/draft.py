"""A prediction in the making: the student has answered, the teacher not."""

import time

import numpy as np

from keras_cascade.runtime.edge_prediction import EdgePrediction
from keras_cascade.runtime.latency import Latency
from keras_cascade.utils.numpy_softmax import numpy_softmax

SOURCE = "<U13"  # the longest is "edge_fallback"


class Draft:
    """The student's answers, with the rows that go to the teacher.

    Args:
        inputs: dict of input name to array, batch first.
        outputs: dict, what the student answered.
        decision: `Decision`, of the operating point in use.
        classes: list of str.
        started: float, `time.perf_counter()` when the call began.

    Attributes:
        rows: int array, which rows go to the teacher.
    """

    __slots__ = (
        "_asked", "_classes", "_ids", "_inputs", "_labels", "_point",
        "_probabilities", "_score", "_source", "_started", "_student",
        "_teacher", "_teacher_error", "_truncated", "rows",
    )  # fmt: skip

    def __init__(self, inputs, outputs, decision, classes, started):
        self._inputs = inputs
        self._probabilities = outputs["probabilities"]
        self._labels = self._probabilities.argmax(axis=-1)
        self._score = outputs["score"]
        self._truncated = outputs.get("truncated")
        self._source = np.full(len(self._labels), "edge", dtype=SOURCE)
        self.rows = decision.delegated(outputs).nonzero()[0]
        self._point = decision.name
        self._classes = classes
        self._started = started
        self._student = time.perf_counter() - started
        self._teacher = 0.0
        self._teacher_error = self._ids = None

    def __len__(self):
        return len(self._labels)

    def questions(self):
        """The delegated rows, and the clock that measures the teacher.

        Returns:
            Dict of input name to array.
        """
        self._asked = time.perf_counter()
        return {name: v[self.rows] for name, v in self._inputs.items()}

    def of_the_student(self):
        """Scores, probabilities and operating point of the delegated rows."""
        rows = self.rows
        return self._score[rows], self._probabilities[rows], self._point

    def answer(self, logits):
        """Takes the teacher's logits `(delegated rows, classes)`."""
        self._teacher = time.perf_counter() - self._asked
        probabilities = numpy_softmax(logits).astype("float32")
        self._source[self.rows] = "cloud"
        self._probabilities[self.rows] = probabilities
        self._labels[self.rows] = probabilities.argmax(axis=-1)

    def fail(self, error, source, ids=None):
        """Marks the delegated rows as not answered by the teacher.

        Args:
            error: `TeacherError`.
            source: `"edge_fallback"`, `"abstained"` or `"queued"`.
            ids: list of str, the rows' ids in the queue. Defaults to `None`.
        """
        self._teacher = time.perf_counter() - self._asked
        self._teacher_error = str(error)
        self._source[self.rows] = source
        if source != "edge_fallback":
            self._labels[self.rows] = -1
        if ids is not None:
            self._ids = [None] * len(self._labels)
            for row, name in zip(self.rows, ids, strict=True):
                self._ids[row] = name

    def queued_ids(self):
        """Ids of the rows that were put into the queue."""
        return [name for name in self._ids or () if name is not None]

    def prediction(self):
        """The finished `EdgePrediction`."""
        return EdgePrediction(
            self._labels,
            self._probabilities,
            self._score,
            self._source,
            self._classes,
            self._teacher_error,
            self._point,
            Latency(
                self._student,
                self._teacher,
                time.perf_counter() - self._started,
            ),
            self._ids,
            self._truncated,
        )
