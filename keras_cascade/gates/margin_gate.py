"""Margin gate: the lead of the top class over the second."""

import keras

from keras_cascade.gates.temperature_gate import TemperatureGate
from keras_cascade.utils.tensor_ops import Tensor, softmax_margin


@keras.saving.register_keras_serializable("keras_cascade")
class MarginGate(TemperatureGate):
    """Scores an example by its top-1 minus top-2 softmax probability.

    Source: arXiv 2110.10305, margin-based delegation.

    Args:
        temperature: float > 0. Divides the logits before the softmax.
            Defaults to `1.0`.
        threshold: float. Defaults to `0.5`, or to the margin ρ of
            `MarginDistillation` when the gate is made by name.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        logits: float tensor of shape `(batch, classes)`, `classes >= 2`.

    Returns:
        Float tensor of shape `(batch,)`, in [0, 1]. Higher is surer.

    Example:

    >>> import keras
    >>> import keras_cascade as kc
    >>> gate = kc.gates.MarginGate()
    >>> float(gate(keras.ops.array([[2.0, 0.0]]))[0])
    0.761594
    """

    default_threshold = 0.5
    takes_defaults = {"margin": "threshold"}

    def score(self, logits: Tensor) -> Tensor:
        return softmax_margin(self.tempered(logits))
