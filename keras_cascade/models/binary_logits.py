"""Layer that turns one logit into the two logits of a binary classifier."""

from typing import Any

import keras
from keras import ops

from keras_cascade.utils.tensor_ops import Tensor


@keras.saving.register_keras_serializable("keras_cascade")
class BinaryLogits(keras.layers.Layer):
    """Puts a logit of zero before the one logit of a binary classifier.

    `softmax([0, z])` is `[1 − sigmoid(z), sigmoid(z)]`, so that a model with
    one output and one with the two logits `(0, z)` are the same classifier.

    Call arguments:
        logits: float tensor of shape `(batch, 1)`.

    Returns:
        Float tensor of shape `(batch, 2)`: zero, and the logit.

    Example:

    >>> import keras_cascade as kc
    >>> layer = kc.models.BinaryLogits()
    >>> layer(keras.ops.convert_to_tensor([[2.0], [-1.0]])).numpy().tolist()
    [[0.0, 2.0], [0.0, -1.0]]
    """

    def call(self, logits: Tensor) -> Tensor:
        return ops.pad(logits, [[0, 0], [1, 0]])

    def compute_output_shape(self, input_shape: Any) -> tuple:
        return (*input_shape[:-1], 2)
