"""Metric: the cascade's accuracy at a delegation rate."""

from typing import Any

import keras
from keras import ops

from keras_cascade.metrics.deferral_metric import CAPACITY, DeferralMetric
from keras_cascade.utils.tensor_ops import Tensor
from keras_cascade.utils.validation import check_number

#: Sums of float32 weights differ by so much from the shares that are meant.
_ROUNDING = 1e-6


@keras.saving.register_keras_serializable("keras_cascade")
class CascadeAccuracyAt(DeferralMetric):
    """Accuracy of the cascade at the highest delegation rate up to a limit.

    Whatever the gate's threshold is: choosing an epoch or a model by
    `cascade_accuracy` rewards delegating more, choosing by this metric does
    not. It equals `DeferralCurve.accuracy_at` of the epoch's examples.

    Args:
        delegation_rate: float in [0, 1], the budget.
        name: str. Defaults to `"cascade_accuracy_at_RATE"`, in the logs of
            validation with `val_` before it.
        capacity: as `DeferralMetric`.
        **kwargs: of `keras.metrics.Metric`.

    Example:

    ```python
    cascade.compile("adam", metrics=[kc.metrics.CascadeAccuracyAt(0.2)])
    stop = keras.callbacks.EarlyStopping(
        "val_cascade_accuracy_at_0.2", mode="max", restore_best_weights=True
    )
    cascade.fit(x, y, validation_data=(x_val, y_val), callbacks=[stop])
    ```
    """

    def __init__(
        self,
        delegation_rate: float,
        name: str | None = None,
        capacity: int = CAPACITY,
        **kwargs: Any,
    ):
        self.delegation_rate = check_number(
            "delegation_rate", delegation_rate, 0, 1
        )
        name = name or f"cascade_accuracy_at_{self.delegation_rate:g}"
        super().__init__(name, capacity, **kwargs)

    def of_curve(self, rate: Tensor, accuracy: Tensor, last: Tensor) -> Tensor:
        within = ops.logical_and(last, rate <= self.delegation_rate + _ROUNDING)
        # Candidates are ascending: the last that is within the budget.
        index = ops.max(ops.where(within, ops.arange(self.capacity), -1))
        return ops.where(
            index < 0,
            self.student_accuracy(),
            ops.take(accuracy, ops.maximum(index, 0)),
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "delegation_rate": self.delegation_rate,
        }
