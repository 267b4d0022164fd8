"""Max-probability gate: the largest softmax probability."""

import keras
from keras import ops

from keras_cascade.gates.temperature_gate import TemperatureGate
from keras_cascade.utils.tensor_ops import Tensor


@keras.saving.register_keras_serializable("keras_cascade")
class MaxProbabilityGate(TemperatureGate):
    """Scores an example by its largest softmax probability.

    Source: Hendrycks and Gimpel, arXiv 1610.02136 (the maximum softmax
    probability baseline).

    Args:
        temperature: float > 0. Divides the logits before the softmax.
            Defaults to `1.0`.
        threshold: float. Defaults to `0.5`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        logits: float tensor of shape `(batch, classes)`, `classes >= 2`.

    Returns:
        Float tensor of shape `(batch,)`, in [1 / classes, 1].

    Example:

    >>> import keras
    >>> import keras_cascade as kc
    >>> gate = kc.gates.MaxProbabilityGate()
    >>> float(gate(keras.ops.array([[2.0, 0.0]]))[0])
    0.880797
    """

    default_threshold = 0.5

    def score(self, logits: Tensor) -> Tensor:
        return ops.max(ops.softmax(self.tempered(logits), axis=-1), axis=-1)
