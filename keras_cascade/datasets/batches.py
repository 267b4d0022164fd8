"""Batches of every kind of data that Keras takes, and their rows."""

import itertools

import keras
import numpy as np

DEFAULT_BATCH_SIZE = 32


def is_tf_dataset(data):
    """Returns whether `data` is a `tf.data.Dataset`, without TensorFlow."""
    return hasattr(data, "element_spec") and hasattr(data, "cardinality")


def is_array_like(data):
    """Returns whether `data` is arrays, or a structure of them."""
    if is_tf_dataset(data) or isinstance(data, keras.utils.PyDataset):
        return False
    leaves = keras.tree.flatten(data)
    return bool(leaves) and all(hasattr(leaf, "__len__") for leaf in leaves)


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
    for number, batch in enumerate(batches):
        if steps is not None and number >= steps:
            return
        yield tuple(_to_numpy(part) for part in batch)


def rows_of(x):
    """Number of examples in a batch."""
    return len(keras.tree.flatten(x)[0])


def take_rows(x, rows):
    """Selected rows of a batch of any structure."""
    return keras.tree.map_structure(lambda a: a[rows], x)


def concatenate_rows(parts):
    """Concatenation of batches of the same structure."""
    return keras.tree.map_structure(lambda *a: np.concatenate(a), *parts)


def _array_batches(arrays, batch_size):
    arrays = tuple(_to_numpy(part) for part in arrays)
    lengths = {len(leaf) for leaf in keras.tree.flatten(arrays) if _given(leaf)}
    if len(lengths) > 1:
        raise ValueError(
            "Expected inputs, labels and weights of the same length. "
            f"Received lengths: {sorted(lengths)}."
        )
    size = batch_size or DEFAULT_BATCH_SIZE
    for start in range(0, lengths.pop(), size):
        yield tuple(
            None
            if part is None
            else take_rows(part, slice(start, start + size))
            for part in arrays
        )


def _given(leaf):
    return leaf is not None


def _to_numpy(part):
    if part is None:
        return None
    return keras.tree.map_structure(
        lambda leaf: (
            leaf.numpy() if hasattr(leaf, "numpy") else np.asarray(leaf)
        ),
        part,
    )


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

    @property
    def num_batches(self):
        return self._dataset.num_batches

    def __getitem__(self, index):
        return self._function(self._dataset[index])

    def on_epoch_begin(self):
        self._dataset.on_epoch_begin()

    def on_epoch_end(self):
        self._dataset.on_epoch_end()
