"""Training data joined with cached teacher logits."""

import keras
import numpy as np

from keras_cascade.datasets.batches import (
    DEFAULT_BATCH_SIZE,
    MappedPyDataset,
    is_tf_dataset,
    take_rows,
    to_numpy,
    unpack,
)
from keras_cascade.datasets.fingerprint import example_hashes
from keras_cascade.datasets.labelled_data import LabelledData
from keras_cascade.teacher_logits.views import augmented
from keras_cascade.utils.top_k_logits import NAMES

#: Keys of a batch's inputs and logits on their way through Keras.
INPUTS = "keras_cascade_inputs"
LOGITS = "keras_cascade_teacher_logits"


def join_cached(inputs, logits):
    """Inputs and cached teacher logits as one structure.

    Args:
        inputs: structure of arrays or tensors.
        logits: array or tensor `(batch, classes)`, or of another task in its
            shape; or dict of `logits`,
            `classes` and `rest`, as `TeacherLogitsCache.arrays` has them.
    """
    return {INPUTS: inputs, LOGITS: logits}


def split_cached(x):
    """`(inputs, logits)`; `logits` is `None` where none are cached."""
    if isinstance(x, dict) and set(x) == {INPUTS, LOGITS}:
        return x[INPUTS], x[LOGITS]
    return x, None


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
        compact = cache.top_k is not None
        self._names = NAMES if compact else NAMES[:1]
        self._types = ["float32", "int32", "float32"][: len(self._names)]

    def joined(self, data, shuffle):
        """Joins labelled data with its logits.

        Args:
            data: `LabelledData`. Batches are looked up as they are drawn.
            shuffle: bool. Shuffles arrays in each epoch.

        Returns:
            `LabelledData` of batches.
        """
        if data.is_arrays:
            return LabelledData(self._arrays(data, shuffle))
        if is_tf_dataset(data.x):
            return LabelledData(self._tf_dataset(data.x))
        if isinstance(data.x, keras.utils.PyDataset):
            # In threads: other processes would not see `view` change.
            return LabelledData(MappedPyDataset(data.x, self._joined, False))
        return LabelledData(self._joined(batch) for batch in data.x)

    def _arrays(self, data, shuffle):
        """`tf.data.Dataset` over arrays, whose rows are looked up once."""
        import tensorflow as tf

        x, y, sample_weight = data.x, data.y, data.sample_weight
        plain = self.cache.augment is None
        rows = self.cache.rows_of(data) if plain else None
        weighted = sample_weight is not None
        labels = np.asarray(y)
        weights = np.asarray(sample_weight) if weighted else None

        def gather(index):
            inputs = to_numpy(take_rows(x, index))
            if plain:
                logits = self.cache.arrays(rows[index])
            else:
                inputs, logits = self._view_of(inputs)
            parts = [
                *keras.tree.flatten(inputs),
                *(logits[name] for name in self._names),
                labels[index],
            ]
            return [
                np.asarray(p) for p in (*parts, *self._last(weights, index))
            ]

        types = [leaf.dtype for leaf in keras.tree.flatten(x)]
        if not plain:
            types = [np.dtype("float32")]
        types += [*map(np.dtype, self._types), labels.dtype]
        types += [weights.dtype] if weighted else []

        def batch_of(index):
            parts = tf.numpy_function(gather, [index], types)
            *arrays, label = parts[:-1] if weighted else parts
            inputs = arrays[: -len(self._names)]
            logits = self._packed(arrays[-len(self._names) :])
            for leaf, original in zip(
                inputs, keras.tree.flatten(x), strict=True
            ):
                leaf.set_shape([None, *original.shape[1:]])
            label.set_shape([None, *labels.shape[1:]])
            joined = join_cached(keras.tree.pack_sequence_as(x, inputs), logits)
            if not weighted:
                return joined, label
            parts[-1].set_shape([None])
            return joined, label, parts[-1]

        indices = tf.data.Dataset.range(data.size)
        if shuffle:
            indices = indices.shuffle(data.size)
        return (
            indices.batch(data.batch_size or DEFAULT_BATCH_SIZE)
            .map(batch_of, num_parallel_calls=2)
            .prefetch(2)
        )

    @staticmethod
    def _last(weights, index):
        return [] if weights is None else [weights[index].reshape(-1)]

    def _view_of(self, x):
        """`(inputs, logits)` of the current view."""
        hashes = example_hashes(x)
        view = self.view % self.cache.views
        inputs = augmented(x, hashes, view, self.cache.augment)
        return inputs, self.cache.arrays(self.cache.rows(x, view))

    def _packed(self, tensors):
        """Tensors of `tf.data` as a batch has them, with static shapes."""
        top_k = self.cache.top_k
        shape = self.cache.shape if top_k is None else [top_k]
        for name, tensor in zip(self._names, tensors, strict=True):
            tensor.set_shape([None] if name == "rest" else [None, *shape])
        named = dict(zip(self._names, tensors, strict=True))
        return named if top_k else named["logits"]

    def _joined(self, batch):
        x, y, weight = unpack(batch)
        plain = to_numpy(x)
        if self.cache.augment is not None:
            x, logits = self._view_of(plain)
        else:
            logits = self.cache.arrays(self.cache.rows(plain))
        if self.cache.top_k is None:
            logits = logits["logits"]
        joined = (join_cached(x, logits), y)
        return joined if weight is None else (*joined, weight)

    def _tf_dataset(self, dataset):
        import tensorflow as tf

        changed = self.cache.augment is not None

        def step(*batch):
            x, y, weight = unpack(batch if len(batch) > 1 else batch[0])
            leaves = tf.nest.flatten(x, expand_composites=True)

            def host(*arrays):
                plain = to_numpy(
                    tf.nest.pack_sequence_as(x, arrays, expand_composites=True)
                )
                try:
                    if changed:
                        inputs, logits = self._view_of(plain)
                        return [inputs, *(logits[n] for n in self._names)]
                    logits = self.cache.arrays(self.cache.rows(plain))
                    return [logits[name] for name in self._names]
                except ValueError as error:
                    self.error = error
                    raise

            types = ["float32", *self._types] if changed else self._types
            arrays = tf.numpy_function(
                host, leaves, [tf.dtypes.as_dtype(one) for one in types]
            )
            arrays = [arrays] if tf.is_tensor(arrays) else list(arrays)
            if changed:
                x = arrays.pop(0)
                x.set_shape(leaves[0].shape)
            logits = self._packed(arrays)
            joined = (join_cached(x, logits), y)
            return joined if weight is None else (*joined, weight)

        return dataset.map(step, num_parallel_calls=2).prefetch(2)
