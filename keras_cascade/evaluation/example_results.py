"""Per-example results of an evaluation."""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_cascade.evaluation.deferral_curve import deferral_curve

if TYPE_CHECKING:
    from keras_cascade.evaluation.deferral_curve import DeferralCurve


#: Label of a row that a teacher gave no answer to.
MISSING = -1


@dataclasses.dataclass(frozen=True, eq=False)
class ExampleResults:
    """Per-example results; every metric is computed from this table.

    The first three columns are enough for thresholds and curves; some metrics
    need more of them.

    Attributes:
        scores: float array `(examples,)`, higher = the student is surer.
        student_correct: bool array `(examples,)`.
        teacher_correct: bool array `(examples,)`.
        sample_weight: float array `(examples,)` or `None`.
        examples: `Fingerprint` of the inputs, or `None`.
        labels: int array `(examples,)`, the right classes, or `None`.
        student_labels: int array `(examples,)` or `None`.
        teacher_labels: int array `(examples,)` or `None`; -1 where the
            teacher gave no answer, which counts as a wrong one.
        student_confidence: float array `(examples,)`, the student's largest
            probability, or `None`.
        teacher_confidence: the same of the teacher.
        student_outputs: float32 array `(examples, outputs)`, the gate's
            inputs; kept only on request.
        features: dict of student layer name to array, batch first, for a gate
            that reads them; kept only on request.
        gate_inputs: float32 array `(examples, inputs)`: what a `LearnedGate`
            reads of a student with many outputs, kept in place of the two
            above.
        classes: int, number of classes, or `None`.

    Example:

    >>> import keras_cascade as kc
    >>> results = kc.evaluation.ExampleResults(
    ...     scores=[0.1, 0.5, 0.9],
    ...     student_correct=[False, True, True],
    ...     teacher_correct=[True, True, True],
    ... )
    >>> results.deferral_curve().accuracy_at(0.4)
    1.0
    """

    scores: np.ndarray
    student_correct: np.ndarray
    teacher_correct: np.ndarray
    sample_weight: np.ndarray | None = None
    examples: Any = None
    labels: np.ndarray | None = None
    student_labels: np.ndarray | None = None
    teacher_labels: np.ndarray | None = None
    student_confidence: np.ndarray | None = None
    teacher_confidence: np.ndarray | None = None
    student_outputs: np.ndarray | None = None
    features: dict | None = None
    classes: int | None = None
    gate_inputs: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def deferral_curve(self) -> "DeferralCurve":
        """Returns the `DeferralCurve` of these examples, with their weights."""
        return deferral_curve(
            self.scores,
            self.student_correct,
            self.teacher_correct,
            self.sample_weight,
        )


class ExampleResultsBuilder:
    """Collects the columns of an `ExampleResults`, batch by batch."""

    def __init__(self):
        self._parts = {}
        self._weights = []
        self._classes = None

    def add(
        self, labels, scores, student_probabilities, teacher_probabilities,
        sample_weight=None, **extra,
    ):  # fmt: skip
        """Appends one batch.

        Args:
            labels: int or bool array `(batch,)` or `(batch, 1)`.
            scores: float array `(batch,)`.
            student_probabilities: float array `(batch, classes)`.
            teacher_probabilities: float array `(batch, classes)`; or a tuple
                of the teacher's classes and their probabilities, `(batch,)`
                each.
            sample_weight: float array `(batch,)` or `None`.
            **extra: further columns by name: arrays, or dicts of arrays.
        """
        labels = np.asarray(labels).reshape(-1)
        if labels.dtype.kind == "b":
            labels = labels.astype("int64")
        columns = {"scores": scores, "labels": labels, **extra}
        for name, probabilities in (
            ("student", student_probabilities),
            ("teacher", teacher_probabilities),
        ):
            if isinstance(probabilities, tuple):
                predicted, confidence = probabilities
            else:
                predicted = probabilities.argmax(axis=-1)
                confidence = probabilities.max(axis=-1)
            # A row of NaN: the teacher gave no answer, so no right one.
            missing = np.isnan(confidence)
            predicted = np.where(missing, MISSING, predicted)
            confidence = np.where(missing, 0.0, confidence)
            columns[f"{name}_labels"] = predicted
            columns[f"{name}_correct"] = predicted == labels
            columns[f"{name}_confidence"] = confidence
        for name, values in columns.items():
            self._parts.setdefault(name, []).append(values)
        self._weights.append(sample_weight)
        self._classes = student_probabilities.shape[-1]

    def build(self, examples):
        """Returns the `ExampleResults` of all batches.

        Args:
            examples: `Fingerprint` of the inputs.
        """
        if not self._weights:
            raise ValueError("Expected at least one example. Received none.")
        columns = {n: _joined(p) for n, p in self._parts.items()}
        weighted = self._weights[0] is not None
        return ExampleResults(
            **columns,
            sample_weight=np.concatenate(self._weights) if weighted else None,
            examples=examples,
            classes=self._classes,
        )


def _joined(parts):
    """Concatenates the batches of one column."""
    if isinstance(parts[0], dict):
        return {name: _joined([p[name] for p in parts]) for name in parts[0]}
    return np.concatenate(parts)
