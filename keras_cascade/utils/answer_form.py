"""Form of a cascade's answers, for code that must not load Keras."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from keras_cascade.utils.numpy_softmax import numpy_softmax

SOFTMAX, SIGMOID, LINEAR = "softmax", "sigmoid", "linear"
PROBABILITIES, VALUES = "probabilities", "values"
#: Names of answers in predictions and files.
ANSWER_NAMES = (PROBABILITIES, VALUES)


def name_of_answers(activation: str) -> str:
    """Name of the answers that an activation computes.

    Args:
        activation: `"softmax"`, `"sigmoid"` or `"linear"`.
    """
    return VALUES if activation == LINEAR else PROBABILITIES


@dataclasses.dataclass(frozen=True)
class AnswerForm:
    """Form of a cascade's answers: from logits to answers and labels.

    Attributes:
        sizes: tuple of the sizes of one answer, of which the last is the
            number of classes, labels or values; `None` where it is free.
        activation: `"softmax"`, `"sigmoid"` or `"linear"`, along the last
            axis: from a teacher's logits to answers. Defaults to
            `"softmax"`.
        one_class: bool. True of classifiers with one class per example.
            Defaults to `True`.

    Example:

    >>> from keras_cascade.utils.answer_form import AnswerForm
    >>> labels = AnswerForm((3,), "sigmoid", one_class=False)
    >>> labels.labels(labels.of_logits([[2.0, -1.0, 0.0]])).tolist()
    [[True, False, True]]
    """

    sizes: tuple[int | None, ...]
    activation: str = SOFTMAX
    one_class: bool = True

    @property
    def name(self) -> str:
        """Name of the answers: `"probabilities"`, or `"values"` of linear."""
        return name_of_answers(self.activation)

    @property
    def count(self) -> int | None:
        """Number of values in one answer; `None` where a size is free."""
        if None in self.sizes:
            return None
        return int(np.prod(self.sizes))  # type: ignore[arg-type]

    def of_logits(self, logits) -> np.ndarray:
        """Answers of a teacher's logits: the activation of them.

        Args:
            logits: float array, batch first.

        Returns:
            float64 array of the same shape; of linear the logits as they are.
        """
        if self.activation == SOFTMAX:
            return numpy_softmax(logits)
        if self.activation == SIGMOID:
            return numpy_sigmoid(logits)
        return np.asarray(logits)

    def labels(self, answers: np.ndarray) -> np.ndarray:
        """Labels of answers.

        Args:
            answers: float array, batch first.

        Returns:
            Of softmax the index of the largest along the last axis, int; of
            sigmoid `answer >= 0.5`, bool; of linear a copy of the values.
        """
        if self.activation == SOFTMAX:
            return answers.argmax(axis=-1)
        if self.activation == SIGMOID:
            return answers >= 0.5
        return np.array(answers)

    @property
    def no_label(self) -> int | bool | float:
        """Label of a row that nobody answered: -1, `False` or NaN."""
        return {SOFTMAX: -1, SIGMOID: False, LINEAR: float("nan")}[
            self.activation
        ]

    def predicted(self, answers: np.ndarray) -> np.ndarray | None:
        """Class of each row; `None` where a row has not one class."""
        return answers.argmax(axis=-1) if self.one_class else None

    def distance(self, answers: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Distance of each row's answer from another.

        Of softmax half the sum of the differences, their mean over the other
        axes; of sigmoid and linear the mean of the differences.

        Args:
            answers: float array, batch first.
            others: float array of the same shape.

        Returns:
            Float array `(rows,)`.
        """
        gaps = np.abs(answers - others)
        if self.activation == SOFTMAX:
            gaps = 0.5 * gaps.sum(axis=-1)
        return gaps.reshape(len(gaps), -1).mean(axis=1)


def answer_name(names) -> str:
    """Name of the answers among those of outputs.

    Args:
        names: iterable of str, or dict of them.
    """
    return VALUES if VALUES in names else PROBABILITIES


def numpy_sigmoid(logits) -> np.ndarray:
    """Sigmoid of an array, in float64, without overflow.

    Args:
        logits: float array.
    """
    logits = np.asarray(logits, dtype="float64")
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1.0, small) / (1.0 + small)


def row_sizes(classes: int | Sequence[int | None]) -> tuple[int | None, ...]:
    """Sizes of one row of logits, from a number of classes or the sizes."""
    return (classes,) if isinstance(classes, int) else tuple(classes)


def fits(shape: Sequence[int], sizes: Sequence[int | None]) -> bool:
    """Returns `True` where a shape has given sizes, of which `None` is any."""
    return len(shape) == len(sizes) and all(
        size is None or one == size
        for one, size in zip(shape, sizes, strict=True)
    )
