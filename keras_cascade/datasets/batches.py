"""Batches of every kind of data that Keras takes: read, or watched."""

import itertools

import keras
import numpy as np

DEFAULT_BATCH_SIZE = 32


def is_tf_dataset(data):
    """Whether `data` is a `tf.data.Dataset`, without importing TensorFlow."""
    return hasattr(data, "element_spec") and hasattr(data, "cardinality")


def is_array_like(data):
    """Whether `data` is arrays (or a structure of them), not batches."""
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


def arrays_or_batches(data):
    """`(x, y, sample_weight)` of one argument.

    Args:
        data: a tuple of arrays `(x, y)` or `(x, y, sample_weight)`; or
            batches, which come back as `x`.
    """
    if isinstance(data, (list, tuple)):
        return unpack(data)
    return data, None, None


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


def first_rows(x, count=DEFAULT_BATCH_SIZE):
    """Up to `count` inputs, and the data with nothing drawn from it.

    Args:
        x: arrays or batches, as `iterate_batches` takes.
        count: int, how many inputs at most. Defaults to `32`.

    Returns:
        `(inputs, data)`, where `data` stands in for `x`.

    Raises:
        ValueError: there is no example.
    """
    if hasattr(x, "__next__"):
        first = next(x, None)
        x = x if first is None else itertools.chain([first], x)
        head = iter([] if first is None else [first])
    else:
        head = x
    inputs = next((batch[0] for batch in iterate_batches(head)), None)
    if inputs is None or not rows_of(inputs):
        raise ValueError("Expected at least one example. Received none.")
    return take_rows(inputs, slice(0, count)), x


def check_not_empty(x):
    """Raises where it can be seen without drawing that there is nothing."""
    if number_of_batches(x) == 0:
        raise ValueError("Expected at least one example. Received none.")


def check_batched(x):
    """Raises where a `tf.data.Dataset` yields single labelled examples."""
    spec = x.element_spec if is_tf_dataset(x) else None
    pair = isinstance(spec, tuple) and len(spec) > 1
    shape = getattr(spec[1], "shape", None) if pair else None
    if shape is not None and shape.rank == 0:
        raise ValueError(
            "Expected batches of examples. Received a dataset of single ones, "
            f"{spec}. Batch it, such as with `dataset.batch(32)`."
        )


def number_of_batches(x, batch_size=None, steps=None):
    """Number of batches, or `None` where it cannot be known beforehand."""
    if is_array_like(x):
        known = -(-rows_of(x) // (batch_size or DEFAULT_BATCH_SIZE))
    elif is_tf_dataset(x):
        known = int(x.cardinality())
    else:
        known = getattr(x, "num_batches", None)
    if known is None or known < 0:
        return steps
    return known if steps is None else min(known, steps)


def rows_of(x):
    """Number of examples in a batch."""
    return len(keras.tree.flatten(x)[0])


def take_rows(x, rows):
    """The given rows of a batch, whatever its structure."""
    return keras.tree.map_structure(lambda a: a[rows], x)


def concatenate_rows(parts):
    """One batch out of several of the same structure."""
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
