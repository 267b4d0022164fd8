"""Bag of words and hashed word pairs, the smallest text student."""

import keras
from keras import layers, ops

#: The largest prime whose square fits into an int32: products of remainders
#: never overflow, so that every runtime computes the same buckets.
PRIME = 46_337
FIRST, SECOND = 31_847, 17_033


def text_bag(
    vocabulary_size: int,
    classes: int,
    length: int | None = None,
    width: int = 32,
    buckets: int = 8192,
    units: int | None = None,
    dropout: float = 0.0,
    name: str = "student",
) -> keras.Model:
    """Mean embedding of words and word pairs, and a dense layer.

    Every token has an embedding of its own; every pair of neighbours has one
    of `buckets`, by a hash that the graph computes from the token ids:
    `(31847·first mod p + 17033·second mod p) mod p mod buckets`, p = 46337.
    The form of model is that of fastText (Joulin et al., arXiv 1607.01759).

    Padding changes nothing: neither how much of it follows, nor its
    embedding. A row of padding only has the embedding 0.

    Args:
        vocabulary_size: int, number of token ids, with padding.
        classes: int >= 2, number of logits.
        length: int, number of token ids per row. Defaults to `None`: any.
        width: int, size of an embedding. Defaults to `32`.
        buckets: int from 0 to 46337, embeddings that word pairs share; `0`
            leaves pairs out. Defaults to `8192`.
        units: int. Adds a hidden layer of so many units. Defaults to `None`.
        dropout: float in [0, 1), before the last layer. Defaults to `0.0`.
        name: str, of the model. Defaults to `"student"`.

    Returns:
        Functional `keras.Model`, from int32 token ids
        `(batch, length)`, 0 for padding, to logits.

    Example:

    >>> import keras_cascade as kc
    >>> kc.models.text_bag(4000, classes=77).output_shape
    (None, 77)
    """
    if not 0 <= buckets <= PRIME:
        raise ValueError(
            f"Expected `buckets` from 0 to {PRIME}. Received: {buckets!r}."
        )
    inputs = keras.Input((length,), dtype="int32", name="token_ids")
    embedded, real = layers.Embedding(vocabulary_size, width)(inputs), inputs
    if buckets:
        # A table of their own, so that a token that is unknown to the first
        # is an error and not a pair.
        pairs, both = _pairs(inputs, buckets)
        of_pairs = layers.Embedding(buckets, width)(pairs)
        embedded = ops.concatenate([embedded, of_pairs], axis=1)
        real = ops.concatenate([inputs, both], axis=1)
    x = masked_mean(embedded, real)
    if units is not None:
        x = layers.Dense(units, activation="relu")(x)
    if dropout:
        x = layers.Dropout(dropout)(x)
    outputs = layers.Dense(classes, name="logits")(x)
    return keras.Model(inputs, outputs, name=name)


def masked_mean(x, token_ids):
    """Mean over the tokens that are not padding; 0 for padding only.

    Args:
        x: float tensor `(batch, length, width)`.
        token_ids: int tensor `(batch, length)`, 0 for padding.

    Returns:
        Float tensor `(batch, width)`.
    """
    real = ops.cast(ops.not_equal(token_ids, 0), x.dtype)
    count = ops.maximum(ops.sum(real, axis=1, keepdims=True), 1.0)
    # Divided twice by the root: in 8 bits a sum over many tokens would be
    # coarse, and a small count beside a large one would round to 0.
    root = ops.sqrt(count)
    return ops.sum(x * ops.expand_dims(real / root, -1), axis=1) / root


def _pairs(token_ids, buckets):
    """Buckets of token pairs, and a mask that is 0 where one is padding."""
    first, second = token_ids[:, :-1], token_ids[:, 1:]
    mixed = ops.mod(ops.mod(first, PRIME) * FIRST, PRIME) + ops.mod(
        ops.mod(second, PRIME) * SECOND, PRIME
    )
    bucket = ops.mod(ops.mod(mixed, PRIME), buckets)
    return bucket, ops.minimum(ops.minimum(first, second), 1)
