"""Energy gate: the free energy of the logits."""

import keras
from keras import ops

from keras_cascade.gates.temperature_gate import TemperatureGate
from keras_cascade.utils.tensor_ops import Tensor


@keras.saving.register_keras_serializable("keras_cascade")
class EnergyGate(TemperatureGate):
    """Scores an example by its negative free energy.

    `score = T · ln Σ_k exp(logit_k / T)`, about the largest logit. Softmax
    gates see differences between logits only; this one sees their level as
    well, which is lower on inputs unlike those of training.

    The level is not pinned down by cross-entropy: adding a constant to every
    logit changes no probability and shifts this score by that constant. So
    scores of two students cannot be compared, and no threshold is natural:
    calibrate it.

    Source: Liu et al., arXiv 2010.03759 (the negated free energy).

    Args:
        temperature: T, float > 0. Defaults to `1.0`.
        threshold: float. Defaults to `0.0`, a starting point without
            meaning.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        logits: float tensor of shape `(batch, classes)`, `classes >= 2`.

    Returns:
        Float tensor of shape `(batch,)`. Higher is surer.

    Example:

    >>> import keras
    >>> import keras_cascade as kc
    >>> gate = kc.gates.EnergyGate()
    >>> float(gate(keras.ops.array([[2.0, 0.0]]))[0])
    2.126928
    """

    def score(self, logits: Tensor) -> Tensor:
        total = ops.sum(ops.exp(self.tempered(logits)), axis=-1)
        temperature = ops.cast(self._temperature, logits.dtype)
        return ops.max(logits, axis=-1) + temperature * ops.log(total)
