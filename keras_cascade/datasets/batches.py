"""Batches of every kind of data that Keras takes, and their rows."""

import itertools
import math
import threading

import keras
import numpy as np

DEFAULT_BATCH_SIZE = 32
#: Own passes over arrays take fewer rows where 32 of them are larger.
BATCH_BYTES = 2**26
#: Keras computes each row at its own length; files for devices cannot, and
#: zeros at the end change the answers of models without masks.
RAGGED = (
    "Expected rows of one length in each batch. Received a RaggedTensor. Pad "
    "it, with `x.to_tensor()` or `dataset.padded_batch(32)`, and train models "
    "that leave the zeros out, such as with `Embedding(mask_zero=True)`."
)


def is_tf_dataset(data):
    """Returns whether `data` is a `tf.data.Dataset`, without TensorFlow."""
    return hasattr(data, "element_spec") and hasattr(data, "cardinality")


def is_array_like(data):
    """Returns whether `data` is arrays, or a structure of them."""
    if is_tf_dataset(data) or isinstance(data, keras.utils.PyDataset):
        return False
    leaves = keras.tree.flatten(data)
    return bool(leaves) and all(
        is_sparse(leaf) or hasattr(leaf, "__array__") for leaf in leaves
    )


def is_sparse(leaf):
    """Returns whether a leaf is a matrix or array of `scipy.sparse`."""
    return hasattr(leaf, "tocsr")


def unpack(data):
    """`(x, y, sample_weight)` from `(x, y)`, `(x, y, w)` or `x`.

    Weights may come as a column; they leave with shape `(batch,)`.
    """
    x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
    if isinstance(weight, np.ndarray):
        weight = weight.reshape(-1)
    elif weight is not None:
        weight = keras.ops.reshape(weight, (-1,))
    return x, y, weight


def iterate_batches(x, y=None, sample_weight=None, batch_size=None, steps=None):
    """Yields `(x, y, sample_weight)` in NumPy arrays, batch by batch.

    Args:
        x: arrays or a structure of them; or batches: a `tf.data.Dataset`, a
            `keras.utils.PyDataset` or an iterable of batches.
        y: labels, with arrays. Defaults to `None`.
        sample_weight: weights, with arrays. Defaults to `None`.
        batch_size: int, with arrays. Defaults to `32`.
        steps: int, at most so many batches. Defaults to `None`: all.

    Yields:
        Tuples of three; what is missing is `None`.
    """
    if is_array_like(x):
        batches = map(unpack, _array_batches((x, y, sample_weight), batch_size))
    elif y is not None:
        raise ValueError(
            "Expected `y` to come from the data set itself: "
            f"{type(x).__name__} yields batches. Received a separate `y`."
        )
    elif isinstance(x, keras.utils.PyDataset):
        count = x.num_batches
        numbers = itertools.count() if count is None else range(count)
        batches = (unpack(x[number]) for number in numbers)
    else:
        batches = map(unpack, x)
    for batch in itertools.islice(batches, steps):
        parts = tuple(to_numpy(part) for part in batch)
        if not all(np.ndim(leaf) for leaf in keras.tree.flatten(parts[0])):
            raise ValueError(
                "Expected batches of arrays with a batch axis. Received single "
                "numbers or lists. Convert them with `numpy.asarray`, and "
                "batch single examples."
            )
        yield parts


def rows_of(x):
    """Number of examples in a batch."""
    leaf = keras.tree.flatten(x)[0]
    return leaf.shape[0] if is_sparse(leaf) else len(leaf)


def bytes_per_row(x):
    """Size of one example of a structure of arrays, dense."""
    return sum(
        leaf.dtype.itemsize * math.prod(leaf.shape[1:])
        for leaf in keras.tree.flatten(x)
    )


def rows_within(x, limit=BATCH_BYTES):
    """Number of examples that fit into so many bytes, at least 1.

    Args:
        x: structure of arrays.
        limit: int, in bytes. Defaults to 64 MiB.
    """
    return max(1, limit // max(1, bytes_per_row(x)))


def row_form(x):
    """Shapes and types of one example: rows of the same can be joined."""
    return tuple(
        (leaf.shape[1:], leaf.dtype.str) for leaf in keras.tree.flatten(x)
    )


def take_rows(x, rows):
    """Selected rows of a batch of any structure."""
    return keras.tree.map_structure(lambda a: a[rows], x)


def concatenate_rows(parts):
    """Concatenation of batches of the same structure."""
    return keras.tree.map_structure(lambda *a: np.concatenate(a), *parts)


def check_lengths(*parts):
    """Raises a `ValueError` unless all arrays have the same length.

    Args:
        *parts: structures of arrays, or `None`.

    Returns:
        int, the length.
    """
    lengths = {
        rows_of(leaf) for leaf in keras.tree.flatten(parts) if leaf is not None
    }
    if len(lengths) > 1:
        raise ValueError(
            "Expected inputs, labels and weights of the same length. "
            f"Received lengths: {sorted(lengths)}."
        )
    return lengths.pop()


def _array_batches(arrays, batch_size):
    length = check_lengths(*arrays)
    size = batch_size or min(DEFAULT_BATCH_SIZE, rows_within(arrays[0]))
    for start in range(0, length, size):
        yield tuple(
            None
            if part is None
            else take_rows(part, slice(start, start + size))
            for part in arrays
        )


def to_numpy(part):
    """Structure of dense NumPy arrays, from a batch in any form.

    Args:
        part: structure of arrays, tensors or sparse matrices; or `None`.
    """
    if part is None:
        return None
    return keras.tree.map_structure(_dense, part)


def _dense(leaf):
    if is_sparse(leaf):
        return leaf.toarray()
    name = type(leaf).__name__
    if name == "RaggedTensor":
        raise ValueError(RAGGED)
    if "SparseTensor" in name:
        import tensorflow as tf

        leaf = tf.sparse.to_dense(tf.sparse.reorder(leaf))
    elif hasattr(leaf, "detach"):  # PyTorch's
        leaf = leaf.detach().cpu()
    return leaf.numpy() if hasattr(leaf, "numpy") else np.asarray(leaf)


class MappedPyDataset(keras.utils.PyDataset):
    """PyDataset whose batches pass through a function.

    Size, hooks and queue are those of the other.

    Args:
        dataset: `keras.utils.PyDataset`.
        function: function from a batch to a batch.
        use_multiprocessing: bool. Whether the batches may be drawn in other
            processes, where what the function does stays.
    """

    def __init__(self, dataset, function, use_multiprocessing):
        super().__init__(
            workers=dataset.workers,
            use_multiprocessing=use_multiprocessing,
            max_queue_size=dataset.max_queue_size,
        )
        self._dataset = dataset
        self._function = function
        self.is_iterated = getattr(dataset, "is_iterated", False)

    @property
    def num_batches(self):
        return self._dataset.num_batches

    def __getitem__(self, index):
        return self._function(self._dataset[index])

    def on_epoch_begin(self):
        self._dataset.on_epoch_begin()

    def on_epoch_end(self):
        self._dataset.on_epoch_end()


class IteratedPyDataset(keras.utils.PyDataset):
    """PyDataset over batches that can be iterated again and again.

    Such batches come in their own order, as those of a PyTorch `DataLoader`:
    a number that does not follow the last one starts a new iteration.

    Args:
        batches: iterable with a length, of tuples or lists `(x, y)` or `(x,
            y, sample_weight)`.
    """

    is_iterated = True

    def __init__(self, batches):
        super().__init__()
        self._batches = batches
        self._iterator = None
        self._next = 0
        self._lock = threading.Lock()  # Keras draws in a thread of its own

    @property
    def num_batches(self):
        return len(self._batches)

    def __getitem__(self, index):
        with self._lock:
            if self._iterator is None or index != self._next:
                self._iterator = itertools.islice(self._batches, index, None)
            self._next = index + 1
            batch = next(self._iterator)
        if not isinstance(batch, (list, tuple)):
            return (to_numpy(batch),)
        return tuple(to_numpy(part) for part in batch)
