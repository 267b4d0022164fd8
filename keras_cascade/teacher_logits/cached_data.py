"""Training data with its cached teacher logits beside it."""

import keras
import numpy as np

from keras_cascade.datasets.batches import (
    is_array_like,
    is_tf_dataset,
    rows_of,
    take_rows,
    unpack,
)
from keras_cascade.datasets.fingerprint import example_hashes
from keras_cascade.datasets.mapped_py_dataset import MappedPyDataset
from keras_cascade.teacher_logits.batch import join_cached
from keras_cascade.teacher_logits.views import augmented


class CachedData:
    """Joins batches with the logits of a `TeacherLogitsCache`.

    Args:
        cache: `TeacherLogitsCache`.

    Attributes:
        view: int, the augmented view that is served; set it every epoch.
        error: the `ValueError` that a lookup raised inside a pipeline.
    """

    def __init__(self, cache):
        self.cache = cache
        self.view = 0
        self.error = None

    def arrays(self, x, y, sample_weight, batch_size, shuffle):
        """A `tf.data.Dataset` over arrays; rows are looked up once."""
        import tensorflow as tf

        plain = self.cache.augment is None
        rows = self.cache.rows(x) if plain else None
        weighted = sample_weight is not None
        labels = np.asarray(y)
        weights = np.asarray(sample_weight) if weighted else None

        def gather(index):
            inputs = take_rows(x, index)
            if plain:
                logits = self.cache.take(rows[index])
            else:
                inputs, logits = self._view_of(inputs)
            parts = [*keras.tree.flatten(inputs), logits, labels[index]]
            return [
                np.asarray(p) for p in (*parts, *self._last(weights, index))
            ]

        types = [np.asarray(leaf).dtype for leaf in keras.tree.flatten(x)]
        if not plain:
            types = [np.dtype("float32")]
        types += [np.dtype("float32"), labels.dtype]
        types += [weights.dtype] if weighted else []

        def batch_of(index):
            parts = tf.numpy_function(gather, [index], types)
            *inputs, logits, label = parts[:-1] if weighted else parts
            for leaf, original in zip(
                inputs, keras.tree.flatten(x), strict=True
            ):
                leaf.set_shape([None, *np.shape(original)[1:]])
            logits.set_shape([None, self.cache.classes])
            label.set_shape([None, *labels.shape[1:]])
            joined = join_cached(keras.tree.pack_sequence_as(x, inputs), logits)
            if not weighted:
                return joined, label
            parts[-1].set_shape([None])
            return joined, label, parts[-1]

        indices = tf.data.Dataset.range(rows_of(x))
        if shuffle:
            indices = indices.shuffle(rows_of(x))
        return (
            indices.batch(batch_size or 32)
            .map(batch_of, num_parallel_calls=2)
            .prefetch(2)
        )

    def batches(self, data):
        """The same kind of batches, with logits; looked up as they come."""
        if is_array_like(data):
            raise ValueError("Expected batches. Received arrays.")
        if is_tf_dataset(data):
            return self._tf_dataset(data)
        if isinstance(data, keras.utils.PyDataset):
            # In threads: other processes would not see `view` change.
            return MappedPyDataset(data, self._joined, False)
        return (self._joined(batch) for batch in data)

    @staticmethod
    def _last(weights, index):
        return [] if weights is None else [weights[index].reshape(-1)]

    def _view_of(self, x):
        """`(inputs, logits)` of the view in turn."""
        hashes = example_hashes(x)
        view = self.view % self.cache.views
        inputs = augmented(x, hashes, view, self.cache.augment)
        return inputs, self.cache.logits(x, view)

    def _joined(self, batch):
        x, y, weight = unpack(batch)
        if self.cache.augment is not None:
            x, logits = self._view_of(x)
        else:
            logits = self.cache.logits(x)
        joined = (join_cached(x, logits), y)
        return joined if weight is None else (*joined, weight)

    def _tf_dataset(self, dataset):
        import tensorflow as tf

        changed = self.cache.augment is not None

        def step(*batch):
            x, y, weight = unpack(batch if len(batch) > 1 else batch[0])
            leaves = tf.nest.flatten(x)

            def host(*arrays):
                plain = tf.nest.pack_sequence_as(x, arrays)
                try:
                    if changed:
                        inputs, logits = self._view_of(plain)
                        return [inputs, logits]
                    return [self.cache.logits(plain)]
                except ValueError as error:
                    self.error = error
                    raise

            types = [tf.float32, tf.float32] if changed else [tf.float32]
            *inputs, logits = tf.numpy_function(host, leaves, types)
            logits.set_shape([None, self.cache.classes])
            if changed:
                inputs[0].set_shape(leaves[0].shape)
                x = inputs[0]
            joined = (join_cached(x, logits), y)
            return joined if weight is None else (*joined, weight)

        return dataset.map(step, num_parallel_calls=2).prefetch(2)
