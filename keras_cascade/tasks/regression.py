"""Task: numbers, with a spread that the student predicts."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_cascade.tasks.task import Task
from keras_cascade.utils.answer_form import LINEAR
from keras_cascade.utils.tensor_ops import Tensor, as_float

GAUSSIAN, QUANTILES = "gaussian", "quantiles"
#: Largest logarithm of a variance, and least: beyond, float32 overflows.
_REACH = 30.0


@keras.saving.register_keras_serializable("keras_cascade")
class Regression(Task):
    """Numbers, with a spread that the student predicts for the gate.

    The teacher outputs values `(batch, values)`, the student twice as many,
    in one of two forms:

    - `spread="gaussian"`: means, then logarithms s of variances. Trained on
      `(s + (y − mean)²·exp(−s)) / 2`, the negative log-likelihood of a normal
      distribution (Nix and Weigend, 1994). The score is `−s / 2`, the
      negative logarithm of the standard deviation.
    - `spread="quantiles"`: low, then high quantiles, of the levels `(1 −
      coverage) / 2` and `(1 + coverage) / 2`. Trained on the pinball loss
      (Koenker and Bassett, 1978). The answer is their middle, the score the
      negative distance between them.

    Of several values the widest spread is the score, and the training loss
    the mean. The loss that is guaranteed is 1 where an error is above
    `tolerance`, or, with `bound`, `min(|error|, bound) / bound`, the mean over
    the values. Give one of the two, in the units of the labels.

    A spread is only as good as the data that it is fitted on: with
    `StandardDistillation()` it is that around the teacher's values, which is
    what delegating can gain; with `student_loss_weight=1.0` that around the
    labels.

    Args:
        tolerance: float > 0. Defaults to `None`.
        bound: float > 0. Defaults to `None`.
        spread: `"gaussian"` or `"quantiles"`. Defaults to `"gaussian"`.
        coverage: float in (0, 1), between the quantiles. Defaults to `0.8`.

    Example:

    >>> import keras_cascade as kc
    >>> task = kc.tasks.Regression(tolerance=0.5)
    >>> [float(loss) for loss in task.loss([[1.0], [2.0]], [[1.2], [2.6]])]
    [0.0, 1.0]
    >>> task.check_shapes((None, 1), (None, 2))
    1
    """

    activation = LINEAR

    def __init__(
        self,
        tolerance: float | None = None,
        bound: float | None = None,
        spread: str = GAUSSIAN,
        coverage: float = 0.8,
    ):
        limits = [one for one in (tolerance, bound) if one is not None]
        if len(limits) != 1 or not (0 < limits[0] < float("inf")):
            raise ValueError(
                "Expected either `tolerance` or `bound`, a number above 0 in "
                "the units of the labels, such as "
                "`Regression(tolerance=0.5)`. Received: "
                f"tolerance={tolerance!r}, bound={bound!r}."
            )
        if spread not in (GAUSSIAN, QUANTILES):
            raise ValueError(
                f"Expected `spread` to be {GAUSSIAN!r} or {QUANTILES!r}. "
                f"Received: {spread!r}."
            )
        if not 0 < coverage < 1:
            raise ValueError(
                f"Expected `coverage` between 0 and 1. Received: {coverage!r}."
            )
        self.tolerance = tolerance
        self.bound = bound
        self.spread = spread
        self.coverage = coverage
        self.zero_one_loss = tolerance is not None
        self.loss_name = (
            f"share of errors above {tolerance:g}"
            if tolerance is not None
            else f"mean error, as a share of {bound:g}"
        )

    def label_loss(self, labels: Tensor, outputs: Tensor) -> Tensor:
        first, second = _halves(outputs)
        values = ops.reshape(ops.cast(labels, first.dtype), ops.shape(first))
        if self.spread == GAUSSIAN:
            s = ops.clip(second, -_REACH, _REACH)
            losses = 0.5 * (s + ops.square(values - first) * ops.exp(-s))
        else:
            level = (1.0 - self.coverage) / 2.0
            losses = _pinball(values - first, level)
            losses = losses + _pinball(values - second, 1.0 - level)
        return ops.mean(losses, axis=-1)

    def distillation_loss(
        self, teacher_outputs: Tensor, outputs: Tensor, temperature: float
    ) -> Tensor:
        return self.label_loss(teacher_outputs, outputs)

    def score(self, outputs: Tensor) -> Tensor:
        first, second = _halves(outputs)
        if self.spread == GAUSSIAN:
            return -ops.max(second, axis=-1) / 2.0
        return -ops.max(ops.abs(second - first), axis=-1)

    def answer_outputs(self, outputs: Tensor) -> Tensor:
        first, second = _halves(outputs)
        return first if self.spread == GAUSSIAN else (first + second) / 2.0

    def loss(self, labels: Tensor, answers: Tensor) -> Tensor:
        answers = ops.convert_to_tensor(answers)
        values = ops.reshape(
            ops.cast(labels, answers.dtype), ops.shape(answers)
        )
        errors = ops.abs(values - answers)
        if self.tolerance is not None:
            beyond = ops.greater(ops.max(errors, axis=-1), self.tolerance)
            return ops.cast(beyond, "float32")
        return ops.mean(ops.minimum(errors, self.bound), axis=-1) / self.bound

    def check_shapes(self, teacher: tuple, student: tuple) -> int:
        if len(teacher) != 2 or len(student) != 2:
            raise ValueError(
                "Expected models with outputs of shape (batch, values). "
                f"Received: teacher {teacher}, student {student}."
            )
        if student[-1] != 2 * teacher[-1]:
            first, second = (
                ("mean", "logarithm of the variance")
                if self.spread == GAUSSIAN
                else ("low quantile", "high quantile")
            )
            raise ValueError(
                f"Expected a student with {2 * teacher[-1]} outputs, a "
                f"{first} and a {second} for each of the teacher's "
                f"{teacher[-1]}. Received: {student[-1]}. End it in "
                f"`Dense({2 * teacher[-1]})`."
            )
        return int(teacher[-1])

    def check_labels(self, labels: Any, size: int) -> None:
        super().check_labels(labels, size)
        labels = np.asarray(labels)
        column = labels.ndim == 1 and size == 1
        if not column and labels.shape[1:] != (size,):
            raise ValueError(
                f"Expected labels of shape (batch, {size}), as the teacher's "
                f"outputs. Received shape {labels.shape}."
            )

    def get_config(self) -> dict[str, Any]:
        return {
            "tolerance": self.tolerance,
            "bound": self.bound,
            "spread": self.spread,
            "coverage": self.coverage,
        }


def _halves(outputs):
    outputs = as_float(outputs)
    half = outputs.shape[-1] // 2
    return outputs[:, :half], outputs[:, half:]


def _pinball(errors, level):
    return ops.maximum(level * errors, (level - 1.0) * errors)
