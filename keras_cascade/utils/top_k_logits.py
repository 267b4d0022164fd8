"""The k largest logits of each row as tensors."""

import math

from keras import ops

#: Arrays of one batch, in the order in which pipelines pass them on.
NAMES = ("logits", "classes", "rest")


class TopKLogits:
    """Logits of many classes, of which the k largest of a row are known.

    The softmax of the others is known in sum only. It is taken to be spread
    evenly: each of the L − k other classes has the logit

    `level = rest − log(L − k)`,

    which leaves the k shares and the remaining mass at temperature 1 exactly
    as they are. At a temperature τ ≠ 1 the others together weigh
    `(L − k)·exp(level / τ)`. That is an approximation: by Jensen's inequality
    no less than their true weight for τ > 1 and no more for τ < 1, and exact
    where they are equal.

    Args:
        logits: float tensor `(batch, k)`.
        classes: int tensor `(batch, k)`, the classes of `logits`.
        rest: float tensor `(batch,)`, logsumexp of the other classes.
        size: int, L, the number of classes.

    Example:

    >>> import keras
    >>> from keras_cascade.utils.top_k_logits import TopKLogits
    >>> top = TopKLogits(
    ...     keras.ops.log([[4.0, 2.0]]),
    ...     keras.ops.array([[1, 2]]),
    ...     keras.ops.log([2.0]),
    ...     size=4,
    ... )
    >>> shares = keras.ops.softmax(top.dense())
    >>> [round(float(share), 4) for share in shares[0]]
    [0.125, 0.5, 0.25, 0.125]
    """

    def __init__(self, logits, classes, rest, size):
        self.logits = logits
        self.classes = classes
        self.rest = rest
        self.size = size

    @property
    def shape(self):
        """Shape of the dense logits, `(batch, size)`."""
        return (self.logits.shape[0], self.size)

    @property
    def level(self):
        """Logit of each class that is not among the k, `(batch,)`."""
        return self.rest - math.log(self.size - self.logits.shape[-1])

    def shares(self, temperature=1.0):
        """Shares of the softmax at a temperature.

        Args:
            temperature: float > 0. Defaults to `1.0`.

        Returns:
            Tuple of the shares of the k classes, `(batch, k)`, and that of
            each other class, `(batch,)`.
        """
        others = self.size - self.logits.shape[-1]
        highest = ops.max(self.logits, axis=-1, keepdims=True)
        top = ops.exp((self.logits - highest) / temperature)
        level = ops.exp((self.level[:, None] - highest) / temperature)
        total = ops.sum(top, axis=-1, keepdims=True) + others * level
        return top / total, (level / total)[:, 0]

    def top_class(self):
        """Class of the largest logit, int32 `(batch,)`."""
        index = ops.argmax(self.logits, axis=-1)[:, None]
        classes = ops.take_along_axis(self.classes, index, axis=-1)
        return ops.cast(classes[:, 0], "int32")

    def dense(self):
        """Logits of all classes, float tensor `(batch, size)`."""
        rows, k = ops.shape(self.logits)[0], self.logits.shape[-1]
        row = ops.repeat(ops.arange(rows, dtype="int32"), k)
        index = ops.stack(
            [row, ops.reshape(ops.cast(self.classes, "int32"), (-1,))], axis=1
        )
        dense = ops.repeat(self.level[:, None], self.size, axis=1)
        return ops.scatter_update(dense, index, ops.reshape(self.logits, (-1,)))


def dense(logits):
    """Dense logits of `TopKLogits`; other logits are returned as they are."""
    return logits.dense() if isinstance(logits, TopKLogits) else logits
