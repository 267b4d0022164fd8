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
        student_correct: bool array `(examples,)`; or float array in [0, 1],
            `1 - loss` of another task's bounded loss.
        teacher_correct: the same of the teacher.
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
            inputs, kept only on request; of more than 256 classes, where the
            gate has a temperature, the `GroupedLogits` that fit it.
        features: dict of student layer name to array, batch first, for a gate
            that reads them; kept only on request.
        gate_inputs: float32 array `(examples, inputs)`: what a `LearnedGate`
            reads of a student with many outputs, kept in place of the two
            above.
        classes: int, number of classes, or `None`.
        loss_name: str, the loss whose `1 - loss` the columns of correctness
            hold, of a task that is not one class per example; or `None`.

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
    student_outputs: Any = None
    features: dict | None = None
    classes: int | None = None
    gate_inputs: np.ndarray | None = None
    loss_name: str | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def deferral_curve(self) -> "DeferralCurve":
        """Returns the `DeferralCurve` of these examples, with their weights."""
        return deferral_curve(
            self.scores,
            self.student_correct,
            self.teacher_correct,
            self.sample_weight,
            self.loss_name,
        )


class ExampleResultsBuilder:
    """Collects the columns of an `ExampleResults`, batch by batch.

    Args:
        quality: function from labels and answers to `1 - loss`, a float array
            `(batch,)`, of a task that is not one class per example. Defaults
            to `None`: an answer is right where the class with the highest
            probability is the label.
        loss_name: str, of that loss. Defaults to `None`.
        zero_one: bool. True where that loss is 0 or 1. Defaults to `True`.
    """

    def __init__(self, quality=None, loss_name=None, zero_one=True):
        self._quality = quality
        self._loss_name = loss_name
        self._zero_one = zero_one
        self._parts = {}
        self._weights = []
        self._classes = None

    def add(
        self, labels, scores, student_probabilities, teacher_probabilities,
        sample_weight=None, **extra,
    ):  # fmt: skip
        """Appends one batch.

        Args:
            labels: int or bool array `(batch,)` or `(batch, 1)`; of another
                task, what it takes.
            scores: float array `(batch,)`.
            student_probabilities: float array `(batch, classes)`; of another
                task, the student's answers.
            teacher_probabilities: float array `(batch, classes)`; or a tuple
                of the teacher's classes and their probabilities, `(batch,)`
                each.
            sample_weight: float array `(batch,)` or `None`.
            **extra: further columns by name: arrays, or dicts of arrays.
        """
        self._weights.append(sample_weight)
        if self._quality is not None:
            columns = {"scores": scores, **extra}
            for name, answers in (
                ("student", student_probabilities),
                ("teacher", teacher_probabilities),
            ):
                columns[f"{name}_correct"] = self._quality_of(labels, answers)
            self._append(columns)
            return
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
        self._append(columns)
        self._classes = student_probabilities.shape[-1]

    def _append(self, columns):
        for name, values in columns.items():
            self._parts.setdefault(name, []).append(values)

    def _quality_of(self, labels, answers):
        """`1 - loss` of a batch; 0 where the teacher gave no answer."""
        missing = np.isnan(answers).reshape(len(answers), -1).any(axis=1)
        quality = self._quality(labels, answers)
        low, high = quality.min(initial=0), quality.max(initial=1)
        if not (low >= -1e-6 and high <= 1 + 1e-6):
            raise ValueError(
                "Expected the task's loss to be in [0, 1]. Received: "
                f"{1 - high:.4g} to {1 - low:.4g}."
            )
        quality = np.where(missing, 0.0, np.clip(quality, 0.0, 1.0))
        if not self._zero_one:
            return quality
        gap = np.abs(quality - np.round(quality))
        if gap.max(initial=0) > 1e-6:
            raise ValueError(
                "Expected a loss of 0 or 1 for every example, as the task's "
                "`zero_one_loss` says. Received: "
                f"{1 - quality[gap.argmax()]:.4g}. Set `zero_one_loss = "
                "False`."
            )
        return quality > 0.5

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
            loss_name=self._loss_name,
        )


def _joined(parts):
    """Concatenates the batches of one column."""
    if isinstance(parts[0], dict):
        return {name: _joined([p[name] for p in parts]) for name in parts[0]}
    joined = getattr(parts[0], "joined", np.concatenate)
    return joined(parts)
