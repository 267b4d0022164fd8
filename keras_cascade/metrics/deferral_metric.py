"""Base class of metrics that need the scores of many examples."""

from typing import Any

import keras
from keras import ops

from keras_cascade import steps
from keras_cascade.utils.tensor_ops import Tensor

CAPACITY = 65_536
#: Columns of the buffer.
_SCORE, _STUDENT, _TEACHER, _WEIGHT = range(4)


class DeferralMetric(keras.metrics.Metric):
    """Base class of metrics of the deferral curve.

    Pass one to `Cascade.compile` in `metrics`: it is given the gate's score
    and the correctness of both models, whatever threshold is set. Exact for
    up to `capacity` examples per epoch; of more, the last so many count.

    A subclass implements `of_curve`.

    Args:
        name: str. Defaults to the subclass's own.
        capacity: int, number of examples that are held, 16 bytes each.
            Defaults to `65536`.
        **kwargs: of `keras.metrics.Metric`.
    """

    def __init__(
        self, name: str | None = None, capacity: int = CAPACITY, **kwargs: Any
    ):
        super().__init__(name=name, **kwargs)
        if not (isinstance(capacity, int) and capacity > 0):
            raise ValueError(
                "Expected `capacity` to be a positive integer. Received: "
                f"{capacity!r}."
            )
        self.capacity = capacity
        # Each replica of a distribution strategy adds the rows of all.
        shared = {"initializer": "zeros", "aggregation": "only_first_replica"}
        self._buffer = self.add_variable(
            (capacity, 4), dtype="float32", name="examples", **shared
        )
        self._seen = self.add_variable((), dtype="int32", name="seen", **shared)

    def update_state(
        self,
        score: Tensor,
        student_correct: Tensor,
        teacher_correct: Tensor,
        sample_weight: Tensor | None = None,
    ) -> None:
        """Adds a batch; `Cascade` calls it.

        Args:
            score: float tensor of shape `(batch,)`.
            student_correct: bool or float tensor of shape `(batch,)`.
            teacher_correct: the same of the teacher.
            sample_weight: float tensor of shape `(batch,)`. Defaults to
                `None`.
        """
        score = ops.cast(score, "float32")
        if sample_weight is None:
            sample_weight = ops.ones_like(score)
        columns = (score, student_correct, teacher_correct, sample_weight)
        rows = ops.stack(
            [ops.reshape(ops.cast(c, "float32"), (-1,)) for c in columns],
            axis=-1,
        )
        rows = steps.of_all_replicas(rows)
        # Of a batch that is larger than the buffer the last ones.
        rows = rows[-self.capacity :]
        count = ops.shape(rows)[0]
        start = ops.convert_to_tensor(self._seen)
        index = (start + ops.arange(count, dtype="int32")) % self.capacity
        self._buffer.assign(
            ops.scatter_update(self._buffer, index[:, None], rows)
        )
        # Kept below twice the capacity, so that it never overflows.
        seen = start + count
        self._seen.assign(
            ops.where(
                seen >= 2 * self.capacity,
                self.capacity + seen % self.capacity,
                seen,
            )
        )

    def result(self) -> Tensor:
        """Metric over the examples that are held; 0 of none."""
        buffer, weight = self._held()
        score = buffer[:, _SCORE]
        # What is not a number is delegated; free rows come last.
        score = ops.where(ops.isnan(score), float("-inf"), score)
        score = ops.where(self._is_held(), score, float("inf"))
        order = ops.argsort(score)
        buffer, score = ops.take(buffer, order, axis=0), ops.take(score, order)
        weight = ops.take(weight, order)
        total = ops.maximum(ops.sum(weight), 1e-12)
        student = ops.cumsum(weight * buffer[:, _STUDENT]) / total
        teacher = ops.cumsum(weight * buffer[:, _TEACHER]) / total
        rate = ops.cumsum(weight) / total
        # Tied scores are delegated together.
        last = ops.concatenate(
            [ops.not_equal(score[1:], score[:-1]), ops.ones((1,), "bool")]
        )
        return self.of_curve(rate, student[-1] - student + teacher, last)

    def of_curve(self, rate: Tensor, accuracy: Tensor, last: Tensor) -> Tensor:
        """Metric of a deferral curve.

        Args:
            rate: float tensor `(capacity,)`, ascending: share of the examples
                up to each, by score.
            accuracy: float tensor `(capacity,)`, of the cascade that
                delegates those.
            last: bool tensor `(capacity,)`, true at the last of equal scores:
                only there a threshold can be.
        """
        raise NotImplementedError(f"{type(self).__name__}.of_curve")

    def student_accuracy(self) -> Tensor:
        """Accuracy at no delegation, over the examples that are held."""
        buffer, weight = self._held()
        total = ops.maximum(ops.sum(weight), 1e-12)
        return ops.sum(weight * buffer[:, _STUDENT]) / total

    def _is_held(self):
        return ops.arange(self.capacity) < self._seen

    def _held(self):
        """Rows of the buffer, and their weights: 0 of free ones."""
        buffer = ops.convert_to_tensor(self._buffer)
        weight = ops.maximum(buffer[:, _WEIGHT], 0.0)
        return buffer, ops.where(self._is_held(), weight, 0.0)

    def reset_state(self) -> None:
        """Drops all examples, at the beginning of an epoch."""
        self._seen.assign(0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "capacity": self.capacity}
