"""Metric: the area under the deferral curve."""

from typing import Any

import keras
from keras import ops

from keras_cascade.metrics.deferral_metric import CAPACITY, DeferralMetric
from keras_cascade.utils.tensor_ops import Tensor


@keras.saving.register_keras_serializable("keras_cascade")
class DeferralArea(DeferralMetric):
    """Area under the deferral curve: accuracy averaged over all rates.

    Straight lines join the candidates, as in
    `keras_cascade.evaluation.deferral_area`.

    Args:
        name: str. Defaults to `"deferral_area"`.
        capacity: as `DeferralMetric`.
        **kwargs: of `keras.metrics.Metric`.

    Example:

    ```python
    cascade.compile("adam", metrics=[kc.metrics.DeferralArea()])
    ```
    """

    def __init__(
        self,
        name: str = "deferral_area",
        capacity: int = CAPACITY,
        **kwargs: Any,
    ):
        super().__init__(name, capacity, **kwargs)

    def of_curve(self, rate: Tensor, accuracy: Tensor, last: Tensor) -> Tensor:
        # The candidate before each row: 0 delegated before the first one.
        position = ops.arange(self.capacity)
        latest = _running_max(ops.where(last, position + 1, 0))
        before = ops.concatenate([ops.zeros((1,), latest.dtype), latest[:-1]])
        none = self.student_accuracy()
        rates = ops.concatenate([ops.zeros((1,)), rate])
        accuracies = ops.concatenate([ops.reshape(none, (1,)), accuracy])
        width = rate - ops.take(rates, before)
        height = (accuracy + ops.take(accuracies, before)) / 2.0
        return ops.sum(ops.where(last, width * height, 0.0))


def _running_max(values):
    return ops.associative_scan(ops.maximum, values)
