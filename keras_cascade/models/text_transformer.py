"""Small transformer, a text student that depends on word order."""

import keras
from keras import layers, ops

from keras_cascade.models.text_bag import masked_mean

#: Attention scores stay within ±CAP, and padding gets PADDING: next to no
#: weight. The usual -1e9 would leave 8 bits no resolution for real scores.
CAP, PADDING = 4.0, -20.0


def text_transformer(
    vocabulary_size: int,
    classes: int,
    length: int | None = None,
    width: int = 64,
    heads: int = 4,
    blocks: int = 2,
    max_length: int = 128,
    dropout: float = 0.0,
    name: str = "student",
) -> keras.Model:
    """Blocks of masked self-attention, their mean, and a dense layer.

    Normalization comes first in each block (Xiong et al., arXiv 2002.04745);
    attention scores are capped by `4·tanh(score / 4)` (as in Gemma 2, arXiv
    2408.00118). Padding changes nothing: its weight in an attention is below
    1.2e-7 of any real token's, and the mean leaves it out.

    Args:
        vocabulary_size: int, number of token ids, with padding.
        classes: int >= 2, number of logits.
        length: int, number of token ids per row. Defaults to `None`: any.
        width: int, size of an embedding; a multiple of `heads`. Defaults
            to `64`.
        heads: int, of each attention. Defaults to `4`.
        blocks: int. Defaults to `2`.
        max_length: int, number of learned positions. Tokens after it share
            the last. Defaults to `128`.
        dropout: float in [0, 1), in each block and before the last layer.
            Defaults to `0.0`.
        name: str, of the model. Defaults to `"student"`.

    Returns:
        Functional `keras.Model`, from int32 token ids
        `(batch, length)`, 0 for padding, to logits.

    Example:

    >>> import keras_cascade as kc
    >>> kc.models.text_transformer(4000, classes=77).output_shape
    (None, 77)
    """
    if width % heads:
        raise ValueError(
            f"Expected a `width` that is a multiple of `heads`, {heads}. "
            f"Received: {width}."
        )
    inputs = keras.Input((length,), dtype="int32", name="token_ids")
    real = ops.cast(ops.not_equal(inputs, 0), "int32")
    # Counted, so that the graph need not ask how long a row is.
    positions = ops.minimum(ops.cumsum(real, axis=1), max_length)
    x = layers.Embedding(vocabulary_size, width)(inputs)
    x = x + layers.Embedding(max_length + 1, width)(positions)
    for _ in range(blocks):
        normal = layers.LayerNormalization()(x)
        x = x + _dropped(_attention(normal, real, width, heads), dropout)
        y = layers.LayerNormalization()(x)
        y = layers.Dense(2 * width, activation="relu")(y)
        x = x + _dropped(layers.Dense(width)(y), dropout)
    x = masked_mean(layers.LayerNormalization()(x), inputs)
    x = _dropped(x, dropout)
    outputs = layers.Dense(classes, name="logits")(x)
    return keras.Model(inputs, outputs, name=name)


def _attention(x, real, width, heads):
    """Self-attention over the tokens that are not padding."""
    size = width // heads

    def projected():
        # (batch, length, width) -> (batch, heads, length, size)
        dense = layers.EinsumDense(
            "btd,dhk->bthk", output_shape=(None, heads, size), bias_axes="hk"
        )
        return ops.transpose(dense(x), (0, 2, 1, 3))

    query, key, value = projected(), projected(), projected()
    real = ops.cast(ops.expand_dims(ops.expand_dims(real, 1), 1), "float32")
    scores = ops.matmul(query / size**0.5, ops.transpose(key, (0, 1, 3, 2)))
    scores = CAP * ops.tanh(scores / CAP)
    scores = scores * real + PADDING * (1.0 - real)
    weights = ops.softmax(scores, axis=-1)
    mixed = ops.transpose(ops.matmul(weights, value), (0, 2, 1, 3))
    return layers.EinsumDense(
        "bthk,hkd->btd", output_shape=(None, width), bias_axes="d"
    )(mixed)


def _dropped(x, dropout):
    return layers.Dropout(dropout)(x) if dropout else x
