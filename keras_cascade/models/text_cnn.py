"""Convolution over token embeddings, a text student."""

import keras
from keras import layers, ops


def text_cnn(
    vocabulary_size: int,
    classes: int,
    length: int | None = None,
    width: int = 48,
    filters: int = 128,
    kernel_size: int = 3,
    dropout: float = 0.0,
    name: str = "student",
) -> keras.Model:
    """One convolution, the maximum over time, and a dense layer.

    The form of model is that of Kim, arXiv 1408.5882. Padding changes
    nothing: its embedding is set to 0, as the convolution's own edges are,
    and after the ReLU it cannot be the maximum.

    Args:
        vocabulary_size: int, number of token ids, with padding.
        classes: int >= 2, number of logits.
        length: int, number of token ids per row. Defaults to `None`: any.
        width: int, size of an embedding. Defaults to `48`.
        filters: int, channels of the convolution. Defaults to `128`.
        kernel_size: int, tokens per window. Defaults to `3`.
        dropout: float in [0, 1), before the last layer. Defaults to `0.0`.
        name: str, of the model. Defaults to `"student"`.

    Returns:
        Functional `keras.Model`, from int32 token ids
        `(batch, length)`, 0 for padding, to logits.

    Example:

    >>> import keras_cascade as kc
    >>> kc.models.text_cnn(4000, classes=77).output_shape
    (None, 77)
    """
    inputs = keras.Input((length,), dtype="int32", name="token_ids")
    real = ops.cast(ops.not_equal(ops.expand_dims(inputs, -1), 0), "float32")
    x = layers.Embedding(vocabulary_size, width)(inputs) * real
    x = layers.Conv1D(filters, kernel_size, padding="same", activation="relu")(
        x
    )
    x = layers.GlobalMaxPooling1D()(x * real)
    if dropout:
        x = layers.Dropout(dropout)(x)
    outputs = layers.Dense(classes, name="logits")(x)
    return keras.Model(inputs, outputs, name=name)
