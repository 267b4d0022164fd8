"""Checks and remembers every batch that Keras draws, on its way there."""

import contextlib
import warnings

import keras
import numpy as np

from keras_cascade.datasets.batches import (
    is_array_like,
    is_tf_dataset,
    iterate_batches,
    unpack,
)
from keras_cascade.datasets.input_checks import check_examples
from keras_cascade.datasets.mapped_py_dataset import MappedPyDataset


class Watcher:
    """Checks labelled examples as they are drawn, and remembers the first.

    Inside a `tf.data` pipeline an exception loses its type and gains a page
    of context; `original_error` brings the original back.

    Args:
        classes: int, number of classes.
    """

    def __init__(self, classes):
        self.classes = classes
        self.remembering = True
        self.error = None

    def watch(self, x, y=None, remember=None):
        """Returns `x`: checked now (arrays), or as it is drawn (batches).

        Args:
            x: anything that `keras.Model.fit` takes.
            y: labels, with arrays.
            remember: optional `Fingerprint` that learns the examples until
                `remembering` is set to `False`.
        """
        if is_array_like(x):
            for batch_x, batch_y, _ in iterate_batches(x, y, batch_size=4096):
                self._see(batch_x, batch_y, remember)
            return x
        if is_tf_dataset(x):
            return self._tf_dataset(x, remember)
        if isinstance(x, keras.utils.PyDataset):
            if remember is not None and x.use_multiprocessing:
                warnings.warn(
                    "A PyDataset with `use_multiprocessing=True` draws its "
                    "batches in other processes, so its examples cannot be "
                    "remembered: `calibrate` will not notice if it is given "
                    "training data.",
                    stacklevel=3,
                )
            return MappedPyDataset(
                x,
                lambda batch: self._seen(batch, remember),
                x.use_multiprocessing,
            )
        return self._iterable(x, remember)

    def forget_after_first_epoch(self):
        """A callback that ends the remembering with the first epoch."""
        return keras.callbacks.LambdaCallback(
            on_epoch_end=lambda *_: setattr(self, "remembering", False)
        )

    def _see(self, x, y, remember):
        try:
            check_examples(x, y, self.classes)
        except ValueError as error:
            self.error = error
            raise
        if remember is not None and self.remembering:
            remember.update(x)

    def _tf_dataset(self, dataset, remember):
        import tensorflow as tf

        def step(*batch):
            batch = batch if len(batch) > 1 else batch[0]

            def host(*leaves):
                x, y, _ = unpack(tf.nest.pack_sequence_as(batch, leaves))
                self._see(x, y, remember)
                return np.True_

            seen = tf.numpy_function(host, tf.nest.flatten(batch), tf.bool)
            with tf.control_dependencies([seen]):
                return tf.nest.map_structure(tf.identity, batch)

        return dataset.map(step)

    def _iterable(self, batches, remember):
        for batch in batches:
            yield self._seen(batch, remember)

    def _seen(self, batch, remember):
        x, y, _ = unpack(batch)
        self._see(x, y, remember)
        return batch


@contextlib.contextmanager
def original_error(*sources):
    """Raises a source's own `error` in place of what wraps it.

    Args:
        *sources: objects with an attribute `error`, such as `Watcher`.
    """
    try:
        yield
    except Exception:
        for source in sources:
            if source.error is not None:
                raise source.error from None
        raise
