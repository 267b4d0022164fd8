"""Layer that computes logits from probabilities."""

from typing import Any

import keras
from keras import ops

from keras_cascade.utils.answer_form import SIGMOID, SOFTMAX
from keras_cascade.utils.tensor_ops import Tensor, as_float

#: Least probability of which a logarithm is taken, and of 1 − p.
_EPSILON = 1e-7


@keras.saving.register_keras_serializable("keras_cascade")
class ProbabilityLogits(keras.layers.Layer):
    """Computes logits whose softmax, or sigmoid, is the probabilities.

    Of a softmax they are `log(p)`: `softmax(log(p)) = p`, and a temperature
    acts as on the model's own logits, from which they differ by one number per
    example. Of a sigmoid they are `log(p) − log(1 − p)`. Probabilities are
    clipped to [1e-7, 1 − 1e-7] first, where float32 ends.

    Args:
        activation: `"softmax"` or `"sigmoid"`, whose values the inputs are.
            Defaults to `"softmax"`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        probabilities: float tensor of shape `(batch, outputs)`, in [0, 1].

    Returns:
        Float32 tensor of the same shape.

    Example:

    >>> import keras_cascade as kc
    >>> layer = kc.models.ProbabilityLogits()
    >>> logits = layer(keras.ops.convert_to_tensor([[0.25, 0.75]]))
    >>> [round(float(p), 4) for p in keras.ops.softmax(logits)[0]]
    [0.25, 0.75]
    """

    def __init__(self, activation: str = SOFTMAX, **kwargs: Any):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        if activation not in (SOFTMAX, SIGMOID):
            raise ValueError(
                "Expected `activation` to be 'softmax' or 'sigmoid'. "
                f"Received: {activation!r}."
            )
        self.activation = activation

    def call(self, probabilities: Tensor) -> Tensor:
        p = ops.clip(as_float(probabilities), _EPSILON, 1.0 - _EPSILON)
        if self.activation == SIGMOID:
            return ops.log(p) - ops.log(1.0 - p)
        return ops.log(p)

    def compute_output_shape(self, input_shape: Any) -> tuple:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "activation": self.activation}
