"""Predictions whose delegated rows wait for the teacher's answer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, cast

import numpy as np

from keras_cascade.errors import TeacherError
from keras_cascade.runtime.edge_prediction import EdgePrediction, Latency
from keras_cascade.runtime.operating_points import DelegationRule
from keras_cascade.utils.answer_form import VALUES, AnswerForm

if TYPE_CHECKING:
    from keras_cascade.runtime.queueing.queued_row import QueuedRow

SOURCE = "<U13"  # the longest is "edge_fallback"
#: Repeated, it is a column of kept rows in half of the time of `np.full`.
_KEPT = np.array(["edge"], SOURCE)


class PendingPrediction:
    """The student's results, with the rows that go to the teacher.

    The teacher's logits go in with `resolve`, or its failure with
    `fall_back`. `prediction` is complete after either, and at once where
    no row is delegated.

    Args:
        inputs: dict of input name to array, batch first.
        outputs: dict, the student's outputs.
        rule: `DelegationRule`, of the operating point in use.
        classes: list of str.
        started: float, `time.perf_counter()` when the call began.
        form: `AnswerForm`. Defaults to `None`: that of a classifier.

    Attributes:
        rows: int array, which rows go to the teacher.
    """

    # A kept row spends single microseconds here: slots, and no properties.
    __slots__ = (
        "_answers", "_classes", "_form", "_ids", "_inputs", "_labels",
        "_operating_point", "_score", "_source", "_started",
        "_student_seconds", "_teacher_error", "_teacher_seconds",
        "_teacher_started", "_truncated", "rows",
    )  # fmt: skip

    def __init__(
        self,
        inputs: dict[str, np.ndarray],
        outputs: dict[str, np.ndarray],
        rule: DelegationRule,
        classes: list[str],
        started: float,
        form: AnswerForm | None = None,
    ):
        self._inputs = inputs
        self._form = form = form or AnswerForm((len(classes),))
        self._answers = outputs[form.name]
        self._labels = form.labels(self._answers)
        self._score = outputs["score"]
        self._truncated = outputs.get("truncated")
        self._source = _KEPT.repeat(len(self._labels))
        self.rows = rule.delegated(outputs).nonzero()[0]
        self._operating_point = rule.name
        self._classes = classes
        self._started = started
        self._student_seconds = time.perf_counter() - started
        self._teacher_seconds = 0.0
        self._teacher_error: str | None = None
        self._ids: list[str | None] | None = None

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def delegated_inputs(self) -> dict[str, np.ndarray]:
        """Dict of input name to array: the delegated rows alone."""
        return {name: v[self.rows] for name, v in self._inputs.items()}

    @property
    def student_result(self) -> tuple[np.ndarray, np.ndarray, str]:
        """Scores, answers and operating point of the delegated rows."""
        rows = self.rows
        return (
            self._score[rows],
            self._answers[rows],
            self._operating_point,
        )

    def start_teacher_clock(self) -> None:
        """Starts the clock of `Latency.teacher`, just before the request."""
        self._teacher_started = time.perf_counter()

    def resolve(self, logits: np.ndarray) -> None:
        """Fills the delegated rows with the teacher's answer.

        Args:
            logits: float32 array `(delegated rows, classes)`; of another
                task in its shape.

        Raises:
            TeacherError: other sizes than the student's answers have.
        """
        sizes = self._answers.shape[1:]
        if logits.shape[1:] != sizes:  # possible where sizes are free
            raise TeacherError(
                f"Expected an answer of the sizes {sizes} from the teacher, "
                f"as the student's. Received: {logits.shape[1:]}.",
                invalid_answer=True,
            )
        self._stop_teacher_clock()
        answers = self._form.of_logits(logits).astype("float32")
        self._source[self.rows] = "cloud"
        self._answers[self.rows] = answers
        self._labels[self.rows] = self._form.labels(answers)

    def fall_back(
        self, error: TeacherError, source: str, ids: list[str] | None = None
    ) -> None:
        """Marks the delegated rows as not answered by the teacher.

        Args:
            error: `TeacherError`.
            source: `"edge_fallback"`, `"abstained"` or `"queued"`.
            ids: list of str, the rows' ids in the queue. Defaults to `None`.
        """
        self._stop_teacher_clock()
        self._teacher_error = str(error)
        self._source[self.rows] = source
        if source != "edge_fallback":
            self._labels[self.rows] = self._form.no_label
        if ids is not None:
            all_ids: list[str | None] = [None] * len(self._labels)
            for row, row_id in zip(self.rows, ids, strict=True):
                all_ids[row] = row_id
            self._ids = all_ids

    @property
    def queued_ids(self) -> list[str]:
        """Ids of the rows that were put into the queue."""
        return [row_id for row_id in self._ids or () if row_id is not None]

    def prediction(self) -> EdgePrediction:
        """Returns the finished `EdgePrediction`, and ends its latency."""
        values = None
        answers: np.ndarray | None = self._answers
        if self._form.name == VALUES:
            answers, values = None, answers
        return EdgePrediction(
            self._labels,
            answers,
            self._score,
            self._source,
            self._classes,
            self._teacher_error,
            self._operating_point,
            Latency(
                self._student_seconds,
                self._teacher_seconds,
                time.perf_counter() - self._started,
            ),
            self._ids,
            self._truncated,
            values,
        )

    def _stop_teacher_clock(self):
        self._teacher_seconds = time.perf_counter() - self._teacher_started


def late_prediction(
    rows: list[QueuedRow], classes: list[str], form: AnswerForm | None = None
) -> EdgePrediction:
    """Builds the prediction of queued rows from the teacher's late answers.

    Args:
        rows: list of `QueuedRow`, each with `logits` or an `error_message`.
        classes: list of str.
        form: `AnswerForm` of fixed sizes. Defaults to `None`: that of a
            classifier.

    Returns:
        `EdgePrediction`.
    """
    form = form or AnswerForm((len(classes),))
    sizes = cast("tuple[int, ...]", form.sizes)
    answers = np.empty((len(rows), *sizes), "float32")
    source = np.full(len(rows), "refused", SOURCE)
    for index, row in enumerate(rows):
        if row.logits is None:
            answers[index] = (
                np.nan if row.probabilities is None else row.probabilities
            )
            continue
        answers[index] = form.of_logits(row.logits)
        source[index] = "cloud"
    labels = form.labels(answers)
    labels[source != "cloud"] = form.no_label
    by_values = form.name == VALUES
    messages = [row.error_message for row in rows if row.logits is None]
    return EdgePrediction(
        labels=labels,
        probabilities=None if by_values else answers,
        score=np.array([row.score for row in rows], "float32"),
        source=source,
        classes=classes,
        teacher_error=messages[0] if messages else None,
        operating_point=", ".join(
            sorted({r.operating_point for r in rows} - {""})
        ),
        ids=[row.id for row in rows],
        values=answers if by_values else None,
    )
