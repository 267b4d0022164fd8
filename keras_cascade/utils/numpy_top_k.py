"""The k largest logits of each row in NumPy arrays, without Keras."""

import numpy as np

#: Rows are sorted in parts of at most so many logits.
PART_VALUES = 2**21
#: Floor of the logarithm of a remaining sum: a sum of zero.
NO_REST = -1e4


def top_k_arrays(logits, top_k):
    """Returns the k largest logits, their classes, and the rest's logsumexp.

    Rows are processed in parts, so that no copy of a large batch is made.

    Args:
        logits: float array `(rows, classes)`, finite.
        top_k: int, from 1 to `classes - 1`.

    Returns:
        Dict of `logits`, float32 `(rows, k)`, in descending order and of
        equal ones the lowest class first; `classes`, int32 `(rows, k)`; and
        `rest`, float32 `(rows,)`: the logsumexp of the other classes.

    Example:

    >>> import numpy as np
    >>> from keras_cascade.utils.numpy_top_k import top_k_arrays
    >>> top = top_k_arrays(np.log([[1.0, 4.0, 2.0, 1.0]]), 2)
    >>> top["classes"].tolist(), round(float(np.exp(top["rest"][0])), 4)
    ([[1, 2]], 2.0)
    """
    rows, classes = np.shape(logits)
    best = np.empty((rows, top_k), "int32")
    values = np.empty((rows, top_k), "float32")
    rest = np.empty(rows, "float32")
    size = max(1, PART_VALUES // classes)
    for start in range(0, rows, size):
        part = slice(start, start + size)
        block = np.array(logits[part], dtype="float32")
        index = np.argpartition(-block, top_k - 1, axis=1)[:, :top_k]
        index.sort(axis=1)
        top = np.take_along_axis(block, index, axis=1)
        order = np.argsort(-top, axis=1, kind="stable")
        best[part] = np.take_along_axis(index, order, axis=1)
        values[part] = np.take_along_axis(top, order, axis=1)
        np.put_along_axis(block, index, -np.inf, axis=1)
        rest[part] = _logsumexp(block)
    return {
        "logits": values,
        "classes": best,
        "rest": np.maximum(rest, values[:, 0] + np.float32(NO_REST)),
    }


def dense_logits(logits, classes, rest, size):
    """Inverse of `top_k_arrays`; the other classes share the rest evenly.

    Args:
        logits: float array `(rows, k)`.
        classes: int array `(rows, k)`.
        rest: float array `(rows,)`.
        size: int, number of classes.

    Returns:
        float32 array `(rows, size)`.
    """
    others = max(size - np.shape(logits)[1], 1)
    level = np.asarray(rest, "float32") - np.float32(np.log(others))
    dense = np.repeat(level[:, None], size, axis=1)
    np.put_along_axis(
        dense, np.asarray(classes), np.asarray(logits, "float32"), axis=1
    )
    return dense


class TopKRows:
    """Rows of logits in memory, of which the k largest are kept.

    Indexed by rows, it is the array of the dense logits of those rows, as
    `dense_logits` makes them.

    Args:
        arrays: dict of `logits`, `classes` and `rest`, as `top_k_arrays`
            returns it.
        size: int, number of classes.

    Attributes:
        arrays: dict.
        shape: `(rows, size)`.
    """

    ndim = 2

    def __init__(self, arrays, size):
        self.arrays = arrays
        self.shape = (len(arrays["logits"]), size)

    @classmethod
    def joined(cls, parts, size):
        """Makes the rows of several batches.

        Args:
            parts: list of dicts, as `top_k_arrays` returns them.
            size: int, number of classes.
        """
        names = ("logits", "classes", "rest")
        return cls(
            {name: np.concatenate([p[name] for p in parts]) for name in names},
            size,
        )

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        return dense_logits(
            **{name: array[rows] for name, array in self.arrays.items()},
            size=self.shape[1],
        )


def numpy_shares(logits, rest):
    """Softmax of the k classes, from their logits and the rest, in float64.

    Args:
        logits: float array `(rows, k)`.
        rest: float array `(rows,)`.
    """
    logits = np.asarray(logits, "float64")
    rest = np.asarray(rest, "float64")[:, None]
    highest = np.maximum(logits.max(axis=1, keepdims=True), rest)
    top = np.exp(logits - highest)
    return top / (top.sum(axis=1, keepdims=True) + np.exp(rest - highest))


def _logsumexp(block):
    """Logarithm of each row's sum of exponentials; overwrites the block."""
    highest = block.max(axis=1, keepdims=True)
    block -= highest
    np.exp(block, out=block)
    return np.log(block.sum(axis=1, dtype="float64")) + highest[:, 0]
