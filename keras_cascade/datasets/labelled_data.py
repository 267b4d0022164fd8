"""Labelled examples in any form that Keras takes."""

import contextlib
import functools
import itertools

import keras
import numpy as np

from keras_cascade.datasets.array_forms import as_arrays, as_column
from keras_cascade.datasets.batches import (
    DEFAULT_BATCH_SIZE,
    RAGGED,
    IteratedPyDataset,
    MappedPyDataset,
    check_lengths,
    concatenate_rows,
    is_array_like,
    is_tf_dataset,
    iterate_batches,
    row_form,
    rows_of,
    rows_within,
    take_rows,
    to_numpy,
    unpack,
)
from keras_cascade.datasets.fingerprint import Fingerprint
from keras_cascade.datasets.input_checks import check_inputs
from keras_cascade.text.text_columns import is_text


class LabelledData:
    """Inputs, labels and weights in any form that Keras takes.

    Created once, from the argument of a public method; every reader of the
    data uses this object.

    Args:
        x: arrays, texts, a DataFrame, or a dict or list of those; or batches:
            a `tf.data.Dataset`, a `keras.utils.PyDataset` or an iterable of
            `(x, y)` or `(x, y, sample_weight)`.
        y: labels, with arrays. Defaults to `None`.
        sample_weight: weights, with arrays. Defaults to `None`.
        batch_size: int, with arrays. Defaults to `32`.

    Attributes:
        x: inputs or batches, as Keras takes them: texts are arrays of
            objects, and an iterator still holds what `first_rows` looked at.
        y: labels or `None`.
        sample_weight: weights or `None`.
        batch_size: int or `None`.

    Raises:
        ValueError: there is no example, or examples come one by one.

    Example:

    >>> import numpy as np
    >>> from keras_cascade.datasets.labelled_data import LabelledData
    >>> data = LabelledData.from_argument((np.eye(3), [0, 1, 2]), batch_size=2)
    >>> data.size, data.number_of_batches()
    (3, 2)
    >>> [y.tolist() for _, y, _ in data.batches()]
    [[0, 1], [2]]
    """

    def __init__(self, x, y=None, sample_weight=None, batch_size=None):
        self.x = as_arrays(x)
        if _is_iterated(self.x):
            self.x = IteratedPyDataset(self.x)
        self.y = as_column(y)
        self.sample_weight = as_column(sample_weight)
        self.batch_size = batch_size
        self._label_reader = None
        if batch_size is not None and not (
            isinstance(batch_size, (int, np.integer)) and batch_size > 0
        ):
            raise ValueError(
                "Expected `batch_size` to be a positive integer. Received: "
                f"{type(batch_size).__name__}. Labels go in with the inputs, "
                "`(x, y)`, or by name, `y=y`."
            )
        if self.is_arrays:
            check_lengths(self.x, self.y, self.sample_weight)
        if self.number_of_batches() == 0:
            raise ValueError("Expected at least one example. Received none.")
        self._check_batched()

    @classmethod
    def from_argument(cls, data, y=None, sample_weight=None, batch_size=None):
        """Creates the data from the argument of a public method.

        Args:
            data: `LabelledData`; a tuple `(x, y)` or `(x, y,
                sample_weight)`; inputs, with `y` beside them; or batches.
            y: labels, where `data` is inputs alone. Defaults to `None`.
            sample_weight: weights, where `data` is inputs alone. Defaults to
                `None`.
            batch_size: int, with arrays. Defaults to `32`.
        """
        if isinstance(data, LabelledData):
            copy = cls(
                data.x,
                data.y,
                data.sample_weight,
                batch_size or data.batch_size,
            )
            copy._label_reader = data._label_reader
            return copy
        if isinstance(y, int):
            raise ValueError(
                "Expected labels as `y`. Received: a number. A batch size is "
                f"given by name, `batch_size={y}`."
            )
        if _is_texts(data):
            return cls(data, y, sample_weight, batch_size)
        if y is None and isinstance(data, (list, tuple)):
            data, y, sample_weight = unpack(data)
        return cls(data, y, sample_weight, batch_size)

    @property
    def is_arrays(self):
        """`True` for arrays in memory, `False` for batches."""
        return is_array_like(self.x)

    @property
    def is_py_dataset(self):
        """`True` for batches of a `keras.utils.PyDataset`."""
        return isinstance(self.x, keras.utils.PyDataset)

    @property
    def can_be_read_again(self):
        """`False` where a second pass would find no examples left."""
        return not self._is_iterator

    @property
    def size(self):
        """Number of examples, or `None` for batches."""
        return rows_of(self.x) if self.is_arrays else None

    @functools.cached_property
    def fingerprint(self):
        """`Fingerprint` of the inputs; reads all of them once."""
        fingerprint = Fingerprint()
        for x, _, _ in self.batches():
            fingerprint.update(x)
        return fingerprint

    def number_of_batches(self, steps=None):
        """Number of batches, or `None` where it cannot be known beforehand.

        Args:
            steps: int, at most so many. Defaults to `None`.
        """
        if self.is_arrays:
            known = -(
                -rows_of(self.x) // (self.batch_size or DEFAULT_BATCH_SIZE)
            )
        elif is_tf_dataset(self.x):
            known = int(self.x.cardinality())
        else:
            known = getattr(self.x, "num_batches", None)
        if known is None or known < 0:
            return steps
        return known if steps is None else min(known, steps)

    def batches(self, steps=None):
        """Yields `(x, y, sample_weight)` in NumPy arrays; `None` if missing.

        Args:
            steps: int, at most so many batches. Defaults to `None`: all.
        """
        if steps is None and self._is_endless:
            raise ValueError(
                "Expected data with an end. Received batches that repeat "
                "for ever. Leave out `repeat()`, or give a number of `steps` "
                "where that is an argument."
            )
        return iterate_batches(
            self.x, self.y, self.sample_weight, self.batch_size, steps
        )

    def checked_batches(self, check_labels=None, steps=None):
        """Yields `batches`, each checked first.

        Args:
            check_labels: function of a batch's labels that raises a
                `ValueError`. Defaults to `None`: inputs only.
            steps: int, at most so many batches. Defaults to `None`: all.

        Raises:
            ValueError: NaN in inputs; missing, one-hot or wrong labels.
        """
        batches = self.batches(steps)
        while True:
            with original_error(self._label_reader):
                batch = next(batches, None)
            if batch is None:
                return
            check_inputs(batch[0])
            if check_labels is not None:
                check_labels(batch[1])
            yield batch

    def first_rows(self, count=DEFAULT_BATCH_SIZE):
        """Up to `count` inputs; an iterator still yields them afterwards.

        Args:
            count: int. Defaults to `32`.

        Raises:
            ValueError: there is no example.
        """
        batch = next(iterate_batches(self._head(1)), None)
        if batch is None or not rows_of(batch[0]):
            raise ValueError("Expected at least one example. Received none.")
        x = batch[0]
        return take_rows(x, slice(0, min(count, rows_within(x))))

    def first_examples(self, count):
        """About `count` labelled examples, to look at.

        Args:
            count: int. Of arrays, rows from all over are taken; of batches
                the first that have so many. An iterator still yields them
                afterwards.

        Returns:
            `(x, y)`, of one form; `y` is `None` where there are no labels.
        """
        if self.is_arrays:
            index = np.linspace(0, self.size - 1, min(count, self.size))
            index = index.astype("int64")
            x = to_numpy(take_rows(self.x, index))
            return x, None if self.y is None else self.y[index]
        batches, rows = [], 0
        with original_error(self._label_reader):
            for x, y, _ in iterate_batches(self._head(4), steps=4):
                if batches and row_form(x) != row_form(batches[0][0]):
                    continue
                batches.append((x, y))
                rows += rows_of(x)
                if rows >= count:
                    break
        if not batches:
            raise ValueError("Expected at least one example. Received none.")
        x = concatenate_rows([x for x, _ in batches])
        if any(y is None for _, y in batches):
            return x, None
        return x, np.concatenate([np.asarray(y) for _, y in batches])

    def _head(self, batches):
        """Data to look at; an iterator yields its batches once more."""
        if not self._is_iterator:
            return self.x
        first = list(itertools.islice(self.x, batches))
        self.x = itertools.chain(first, self.x)
        return iter(first)

    def require_second_pass(self, what):
        """Raises where the examples can be drawn only once.

        Args:
            what: str, which data it is, for the error.
        """
        if not self.can_be_read_again:
            raise ValueError(
                f"Expected {what} that can be read twice: arrays, a "
                "`tf.data.Dataset` or a `PyDataset`. Received a generator."
            )

    def as_tuple(self):
        """Batches as they are, arrays as `(x, y)` or `(x, y, weights)`."""
        if not self.is_arrays:
            return self.x
        return tuple(
            part
            for part in (self.keras_x, self.y, self.sample_weight)
            if part is not None
        )

    def with_indices(self, reader, strict=False):
        """Copy whose labels are indices of classes.

        Args:
            reader: `LabelReader`. Arrays tell it the first label.
            strict: bool, of `LabelReader.decide_first`. Defaults to `False`.

        Returns:
            `LabelledData` with the same examples; of data whose labels were
            read before, itself.

        Raises:
            ValueError: labels that are ambiguous, or names of unknown classes.
        """
        if self._label_reader is not None:
            return self
        if self.is_arrays:
            reader.decide_first(self.y, strict)
            y = None if self.y is None else reader.indices(self.y)
            data = self._replaced(self.x, y)
        elif self._are_indices(reader):  # an iterator is then another
            data = self._replaced(self.x, self.y)
        else:
            data = self._replaced(self._read_batches(reader), self.y)
        data._label_reader = reader
        return data

    def _are_indices(self, reader):
        """Returns whether labels of batches need no reading."""
        if not is_tf_dataset(self.x):
            _, labels = self.first_examples(1)
            return labels is None or reader.are_indices(labels)
        spec = self.x.element_spec
        spec = spec[1] if isinstance(spec, tuple) and len(spec) > 1 else None
        shape = getattr(spec, "shape", None)
        if shape is None or shape.rank is None:
            return reader.first != 1
        column = shape.rank < 2 or shape[-1] == 1
        return spec.dtype.name != "string" and column and reader.first != 1

    def _read_batches(self, reader):
        if is_tf_dataset(self.x):
            return _read_tf_dataset(self.x, reader)
        if self.is_py_dataset:
            return MappedPyDataset(
                self.x, reader.pass_on, self.x.use_multiprocessing
            )
        return (reader.pass_on(batch) for batch in self.x)

    def _replaced(self, x, y, sample_weight=None):
        """Copy with other inputs and labels of the same form."""
        if sample_weight is None:
            sample_weight = self.sample_weight
        data = LabelledData(x, y, sample_weight, self.batch_size)
        data._label_reader = self._label_reader
        return data

    def weighted(self, traffic):
        """Copy with a traffic mix multiplied into the sample weights.

        Args:
            traffic: `TrafficMix`.

        Raises:
            ValueError: these are batches.
        """
        if not self.is_arrays or self.y is None:
            raise ValueError(
                "Expected arrays `x` and `y` with `traffic`. Received: "
                "batches. To train, give them weights with "
                "`TrafficMix.class_weights`, as `class_weight`; to measure, "
                "use `Cascade.judge(batches, traffic=...)` with "
                "`keras_cascade.evaluation.summarize`."
            )
        weights = traffic.weights(self.y, self.sample_weight)
        return self._replaced(self.x, self.y, weights)

    def observed(self, observer):
        """Copy whose batches pass through an observer.

        Arrays are observed now. Batches are observed as they are drawn,
        whoever draws them.

        Args:
            observer: `ExampleObserver`.

        Returns:
            `LabelledData` with the same examples.
        """
        if self.is_arrays:
            size = min(4096, rows_within(self.x))
            for x, y, _ in iterate_batches(self.x, self.y, batch_size=size):
                observer.observe(x, y)
            return self
        if is_tf_dataset(self.x):
            x = _observed_tf_dataset(self.x, observer)
        elif self.is_py_dataset:
            # Threads of Keras may draw these batches in any order.
            x = MappedPyDataset(
                self.x, observer.pass_on, self.x.use_multiprocessing
            )
        else:
            x = (observer.pass_on(batch) for batch in self.x)
        observer.label_reader = self._label_reader
        return self._replaced(x, self.y)

    @property
    def can_be_shuffled(self):
        """`True` where Keras can shuffle the data, or its batches."""
        return self.is_arrays or (
            self.is_py_dataset and not getattr(self.x, "is_iterated", False)
        )

    @property
    def keras_x(self):
        """Inputs or batches for `keras.Model`, which takes fewer forms."""
        if not self.is_arrays:
            return self.x
        return keras.tree.map_structure(_keras_form, self.x)

    @property
    def _is_endless(self):
        if is_tf_dataset(self.x):
            return int(self.x.cardinality()) == -1  # tf.data's INFINITE
        return self.is_py_dataset and self.x.num_batches is None

    @property
    def _is_iterator(self):
        # Some PyDatasets, such as those of ImageDataGenerator, are iterators
        # as well; as a PyDataset they can be read again.
        return hasattr(self.x, "__next__") and not self.is_py_dataset

    def _check_batched(self):
        spec = self.x.element_spec if is_tf_dataset(self.x) else None
        kinds = {type(leaf).__name__ for leaf in keras.tree.flatten(spec)}
        if "RaggedTensorSpec" in kinds:
            raise ValueError(RAGGED)
        pair = isinstance(spec, tuple) and len(spec) > 1
        shape = getattr(spec[1], "shape", None) if pair else None
        if shape is not None and shape.rank == 0:
            raise ValueError(
                "Expected batches of examples. Received a dataset of single "
                f"ones, {spec}. Batch it, such as with `dataset.batch(32)`."
            )


class ExampleObserver:
    """Checks labelled examples as they are drawn.

    Args:
        check_labels: function of a batch's labels that raises a
            `ValueError`, such as `class_label_check` makes.
        on_inputs: function of a batch of inputs, called for each batch that
            passed the checks. Defaults to `None`.

    Attributes:
        error: the `ValueError` of the first batch that failed, or `None`. In
            a `tf.data` pipeline an exception loses its type and gains a page
            of context; `original_error` raises this one in its place.
        label_reader: `LabelReader` that the batches pass through before, or
            `None`.
    """

    def __init__(self, check_labels, on_inputs=None):
        self._check_labels = check_labels
        self.label_reader = None
        self._error = None
        self._on_inputs = on_inputs

    @property
    def error(self):
        """`ValueError` of the first batch that failed, or `None`."""
        if self._error is None and self.label_reader is not None:
            return self.label_reader.error
        return self._error

    def observe(self, x, y):
        """Checks one batch of inputs and labels."""
        x, y = to_numpy(x), to_numpy(y)
        try:
            check_inputs(x)
            self._check_labels(y)
        except ValueError as error:
            self._error = error
            raise
        if self._on_inputs is not None:
            self._on_inputs(x)

    def pass_on(self, batch):
        """Checks a batch `(x, y)` or `(x, y, sample_weight)` and returns it."""
        x, y, _ = unpack(batch)
        self.observe(x, y)
        return batch


@contextlib.contextmanager
def original_error(*sources):
    """Raises a source's own `error` in place of the error that wraps it.

    Args:
        *sources: objects with an attribute `error`, such as
            `ExampleObserver`; or `None`.
    """
    try:
        yield
    except Exception:
        for source in sources:
            if source is not None and source.error is not None:
                raise source.error from None
        raise


def _observed_tf_dataset(dataset, observer):
    import tensorflow as tf

    def step(*batch):
        batch = batch if len(batch) > 1 else batch[0]

        # Sparse tensors consist of several.
        leaves = tf.nest.flatten(batch, expand_composites=True)

        def host(*leaves):
            observer.pass_on(
                tf.nest.pack_sequence_as(batch, leaves, expand_composites=True)
            )
            return np.True_

        # Without the control dependency the graph would drop the check.
        passed = tf.numpy_function(host, leaves, tf.bool)
        with tf.control_dependencies([passed]):
            return tf.nest.map_structure(
                tf.identity, batch, expand_composites=True
            )

    return dataset.map(step)


def _read_tf_dataset(dataset, reader):
    import tensorflow as tf

    def step(*batch):
        x, y, weight = unpack(batch if len(batch) > 1 else batch[0])
        shape = y.shape[:1]
        y = tf.numpy_function(
            lambda labels: reader.noted(labels).reshape(-1).astype("int32"),
            [y],
            tf.int32,
        )
        y.set_shape(shape)
        return (x, y) if weight is None else (x, y, weight)

    return dataset.map(step)


def _is_texts(data):
    return (
        isinstance(data, (list, tuple))
        and bool(data)
        and all(isinstance(value, (str, bytes)) for value in data)
    )


def _is_iterated(x):
    """Returns whether these are batches that only an iteration gives.

    Such are the `DataLoader` of PyTorch and data sets of Grain, which Keras
    takes as well. Others that can be iterated again it draws only once.
    """
    if is_array_like(x) or is_tf_dataset(x) or hasattr(x, "element_spec"):
        return False
    if isinstance(x, keras.utils.PyDataset) or hasattr(x, "__next__"):
        return False
    try:
        return hasattr(x, "__iter__") and len(x) > 0
    except TypeError:  # of unknown length
        return False


def _keras_form(leaf):
    """One array as Keras takes it: texts with two axes as a tensor."""
    if is_text(leaf) and leaf.ndim > 1:
        return keras.ops.convert_to_tensor(leaf, dtype="string")
    return leaf
