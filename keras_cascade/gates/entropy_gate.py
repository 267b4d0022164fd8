"""Entropy gate: the entropy of the softmax."""

import keras
from keras import ops

from keras_cascade.gates.temperature_gate import TemperatureGate
from keras_cascade.utils.tensor_ops import Tensor

#: exp(-200) is 0 in float32, and 0 · 200 is still a number.
FLOOR = -200.0


@keras.saving.register_keras_serializable("keras_cascade")
class EntropyGate(TemperatureGate):
    """Scores an example by the negated entropy of its softmax, in nats.

    `score = Σ_k p_k · ln p_k` with `p = softmax(logits / temperature)`.
    Unlike margin and largest probability it looks at all classes: of two
    examples with the same top two, the one whose rest is spread over more
    classes is less sure.

    Source: Shannon entropy of the predicted distribution, as BranchyNet
    (arXiv 1709.01686) uses it to decide where an example leaves a network.

    Args:
        temperature: float > 0. Divides the logits before the softmax.
            Defaults to `1.0`.
        threshold: float. Defaults to `-0.5`: with two classes in the
            running, a top probability of 0.80.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        logits: float tensor of shape `(batch, classes)`, `classes >= 2`.

    Returns:
        Float tensor of shape `(batch,)`, in [-ln(classes), 0].

    Example:

    >>> import keras
    >>> import keras_cascade as kc
    >>> gate = kc.gates.EntropyGate()
    >>> float(gate(keras.ops.array([[2.0, 0.0]]))[0])
    -0.365334
    """

    default_threshold = -0.5

    def score(self, logits: Tensor) -> Tensor:
        tempered = ops.maximum(self.tempered(logits), FLOOR)
        shares = ops.exp(tempered)
        total = ops.sum(shares, axis=-1)
        return ops.sum(shares * tempered, axis=-1) / total - ops.log(total)
