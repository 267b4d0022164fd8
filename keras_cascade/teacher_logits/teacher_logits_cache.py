"""Cache of teacher logits, keyed by example."""

import hashlib
import os
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_cascade.datasets.batches import rows_of, rows_within
from keras_cascade.datasets.fingerprint import cast_hashes, hash_examples
from keras_cascade.datasets.labelled_data import LabelledData
from keras_cascade.teacher_logits.chunk_store import ChunkStore
from keras_cascade.teacher_logits.compressed_logits import expand
from keras_cascade.teacher_logits.key_index import KeyIndex
from keras_cascade.teacher_logits.tolerances import TOLERANCE, tolerance
from keras_cascade.teacher_logits.views import view_keys
from keras_cascade.utils.answer_form import LINEAR
from keras_cascade.utils.numpy_softmax import numpy_softmax
from keras_cascade.utils.numpy_top_k import numpy_shares

#: Rows are read in parts of at most so many logits.
PART_VALUES = 2**20


class TeacherLogitsCache:
    """Teacher logits that `cache_teacher_logits` stored on disk.

    Rows are found by a hash of the example itself, so that shuffling,
    filtering and repeating a data set cannot misalign them; an example that
    is not there is an error.

    Args:
        path: folder that `cache_teacher_logits` wrote.
        teacher: optional `keras.Model`. When given, a cache of other weights
            is refused.
        augment: the function that the cache was made with, if there was one.
            Defaults to `None`.

    Attributes:
        classes: int; of another task than one class per example the size of
            the outputs' last axis.
        shape: tuple of int, of an example's outputs: `(classes,)`.
        activation: str, of the `task` that the cache was made for; `None` for
            one class per example.
        top_k: int, how many logits of an example are stored; `None` for all.
        views: int, how many augmented views an example has; 1 for none.

    Example:

    ```python
    cache = keras_cascade.cache_teacher_logits((x, y), teacher, "logits")
    cascade.fit(x, y, epochs=10, teacher_logits=cache)
    answers = keras_cascade.cache_teacher_logits((x_test, y_test), teacher)
    results = cascade.judge((x_test, y_test), teacher_logits=answers)
    ```
    """

    def __init__(
        self,
        path: str | os.PathLike,
        teacher: keras.Model | None = None,
        augment: Callable | None = None,
    ) -> None:
        self._store = ChunkStore(path)
        self.path = self._store.path
        info = self._store.read_info()
        if info is None or not info.get("complete"):
            raise ValueError(
                f"Expected a complete cache of teacher logits at '{path}'. "
                f"Received: {'none' if info is None else 'an unfinished one'}. "
                "Run `cache_teacher_logits` (again): it goes on where it was."
            )
        self.info = info
        self.classes = info["classes"]
        self.shape = tuple(info.get("shape", [self.classes]))
        self.activation = info.get("activation")
        self.top_k = info["top_k"]
        self.views = info["views"]
        self.augment = augment
        if info.get("augmented") and augment is None:
            raise ValueError(
                f"The cache at '{path}' holds augmented views ({self.views} "
                "an example). Pass the `augment` function that it was made "
                "with."
            )
        if teacher is not None:
            self.check_weights(teacher)
        self._chunks = [self._store.open(c) for c in self._store.chunks()]
        sizes = [len(chunk["keys"]) for chunk in self._chunks]
        self._starts = np.concatenate([[0], np.cumsum(sizes)])
        keys = np.concatenate([chunk["keys"] for chunk in self._chunks])
        self._index = KeyIndex(keys)
        self._cast_index = None  # of examples in float64, cast to float32
        if any("cast" in chunk for chunk in self._chunks):
            cast = [chunk.get("cast", chunk["keys"]) for chunk in self._chunks]
            self._cast_index = KeyIndex(np.concatenate(cast))

    def __len__(self) -> int:
        return int(self._starts[-1])

    def logits(self, x: Any, view: int = 0) -> np.ndarray:
        """Logits of a batch of inputs.

        Args:
            x: inputs (before augmentation), a structure of arrays.
            view: int, which augmented view. Defaults to `0`.

        Returns:
            float32 array `(rows, classes)`, each row's largest logit 0; of
            another task `(rows, *shape)`, the teacher's outputs.
        """
        return self.take(self.rows(x, view))

    def probabilities(self, x: Any) -> np.ndarray:
        """The teacher's probabilities for a batch of plain inputs.

        With half precision they are the live teacher's to about 0.001; which
        class is largest is kept.

        Args:
            x: inputs, a structure of arrays.

        Returns:
            float32 array `(rows, classes)`.

        Raises:
            ValueError: the cache is of another task.
        """
        self._check_is_of_classes("probabilities")
        return numpy_softmax(self.logits(x)).astype("float32")

    def answers(self, x: Any) -> tuple[np.ndarray, np.ndarray]:
        """The teacher's class and its probability, for plain inputs.

        Args:
            x: inputs, a structure of arrays.

        Returns:
            Tuple of an int array `(rows,)` and a float32 array `(rows,)`.

        Raises:
            ValueError: the cache is of another task.
        """
        self._check_is_of_classes("answers")
        arrays = self.arrays(self.rows(x))
        best = arrays["logits"].argmax(axis=1)[:, None]
        shares = _shares(arrays)
        confidence = np.take_along_axis(shares, best, axis=1)[:, 0]
        if "classes" in arrays:
            best = np.take_along_axis(arrays["classes"], best, axis=1)
        return best[:, 0], confidence.astype("float32")

    def rows(self, x: Any, view: int = 0) -> np.ndarray:
        """Row numbers of a batch of inputs, to `take` later.

        Raises:
            ValueError: an example is not in the cache.
        """
        hashes = hash_examples(x)
        rows, cached = self._index.rows(view_keys(hashes.exact, view))
        if not cached.all():
            index, keys = self._cast_index, hashes.exact
            if hashes.cast.size:
                index = self._index if index is None else None
                keys = cast_hashes(x)
            if index is not None:
                # A data set in float64 shares its logits with its copy in
                # float32: Keras casts the one to the other.
                rows, cached = index.rows(view_keys(keys, view))
        if not cached.all():
            raise ValueError(
                f"{int((~cached).sum())} of {rows_of(x)} examples have no "
                f"logits in the cache '{self.path}'. Expected: the examples "
                "that it was made of, in any order. Either the data changed, "
                "or it is augmented at random: the teacher would then have "
                "seen another picture than the student. Give the cache the "
                "plain data and declare `views` and `augment` when making it."
            )
        return rows

    def rows_of(self, data: LabelledData) -> np.ndarray:
        """Row numbers of all inputs of `LabelledData`, to `take` later."""
        data = LabelledData(data.x, batch_size=rows_within(data.x))
        return np.concatenate([self.rows(x) for x, _, _ in data.batches()])

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Logits of rows that `rows` returned, as `logits` returns them."""
        return expand(self.arrays(rows), self.classes)

    def arrays(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Stored arrays of rows that `rows` returned.

        Args:
            rows: int array.

        Returns:
            Dict of `logits`, float32 `(rows, classes)`, each row's largest 0
            (of another task `(rows, *shape)`, as the teacher output them);
            with `top_k` of `logits`, float32 `(rows, top_k)`, their
            `classes`, int32 `(rows, top_k)`, and `rest`, float32 `(rows,)`,
            the logsumexp of the other classes.
        """
        rows = np.asarray(rows)
        chunk_of = np.searchsorted(self._starts, rows, side="right") - 1
        shape = self.shape if self.top_k is None else (self.top_k,)
        arrays = {"logits": np.empty((len(rows), *shape), "float32")}
        if self.top_k is not None:
            arrays["classes"] = np.empty((len(rows), *shape), "int32")
            arrays["rest"] = np.empty(len(rows), "float32")
        for number in np.unique(chunk_of):
            selected = np.flatnonzero(chunk_of == number)
            index = rows[selected] - self._starts[number]
            for name, array in arrays.items():
                array[selected] = self._chunks[number][name][index]
        return arrays

    def check_task(self, task: Any) -> None:
        """Raises unless the cache was made for such a task.

        Tasks of one activation have the same outputs, so that they share
        caches.

        Args:
            task: `keras_cascade.tasks.Task`, of a cascade.
        """
        expected = None if task.one_class_per_example else task.activation
        if self.activation != expected:
            raise ValueError(
                f"Expected a cache of outputs for {task!r}. The cache at "
                f"'{self.path}' holds {_held(self.activation)}. Run "
                "`cache_teacher_logits(..., task=cascade.task)`."
            )

    def check_weights(self, teacher: keras.Model) -> None:
        """Raises unless the cache was made by these weights."""
        if weights_sha256(teacher) != self.info["teacher_sha256"]:
            raise ValueError(
                f"The cache at '{self.path}' was made by a teacher with other "
                "weights. Delete it and run `cache_teacher_logits` again, or "
                "pass the teacher that it was made with."
            )

    def check_trains(self, teacher: keras.Model) -> None:
        """Raises unless a student of this teacher may learn from the cache.

        A cache of no single teacher, cross-fitted or a log, may be used.
        """
        if self.info["teacher_sha256"] is not None:
            self.check_weights(teacher)

    def check_answers_for(self, teacher: keras.Model) -> None:
        """Raises unless these are this teacher's answers to plain examples.

        Training accepts others as well; `judge` and `calibrate` do not.
        """
        if self.info.get("augmented"):
            raise ValueError(
                "Expected the teacher's answers to the examples themselves. "
                f"The cache at '{self.path}' holds those to augmented views. "
                "Run `cache_teacher_logits` without `augment`."
            )
        if self.info["teacher_sha256"] is None:
            raise ValueError(
                "Expected the answers of the cascade's own teacher. The cache "
                f"at '{self.path}' is cross-fitted or a log, so others gave "
                "its answers: it can train a student, and judges nobody. Run "
                "`cache_teacher_logits`."
            )
        self.check_weights(teacher)

    def spot_check(
        self,
        ask_teacher: Callable,
        x: Any,
        answers: Callable = numpy_softmax,
    ) -> None:
        """Compares cached logits with the live teacher's on some inputs.

        Args:
            ask_teacher: function from inputs to answers: probabilities, or
                those of another task.
            x: a few inputs, before augmentation.
            answers: function from outputs to such answers. Defaults to the
                softmax.
        """
        if self.augment is not None:
            return  # the live teacher would need the augmented inputs
        live = ask_teacher(x)
        if self.top_k is None:
            outputs = self.logits(x)
            cached = answers(outputs)
        else:
            # Of the class that the cache has as the likeliest.
            best, cached = self.answers(x)
            live = np.take_along_axis(live, best[:, None], axis=1)[:, 0]
        gaps = np.abs(cached - live)
        limits = TOLERANCE[self.info["dtype"]]
        if self.activation is not None:
            limits = tolerance(outputs, self.activation, self.info["dtype"])
        if (gaps > limits).any():  # NaN: there is no answer
            kind = "value" if self.activation == LINEAR else "probability"
            raise ValueError(
                f"Cached logits at '{self.path}' differ from the teacher's: "
                f"by up to {np.nanmax(gaps):.2g} in {kind}. The teacher or the "
                "preprocessing changed. Run `cache_teacher_logits` again."
            )

    def margins(self) -> np.ndarray:
        """Teacher margins of the cached rows with an answer, float32.

        Raises:
            ValueError: the cache is of another task.
        """
        self._check_is_of_classes("margins")
        size = max(1, PART_VALUES // (self.top_k or self.classes))
        parts = []
        for start in range(0, len(self), size):
            rows = np.arange(start, min(start + size, len(self)))
            shares = _shares(self.arrays(rows))
            top = np.partition(shares, -2, axis=1)[:, -2:]
            margins = top[:, 1] - top[:, 0]
            parts.append(margins[~np.isnan(margins)])
        return np.concatenate(parts)

    def _check_is_of_classes(self, method):
        if self.activation is not None:
            raise ValueError(
                f"Expected a cache of one class per example for `{method}`. "
                f"The cache at '{self.path}' holds {_held(self.activation)}: "
                "read them with `logits(x)`."
            )


def _held(activation):
    """Content of a cache, for a sentence."""
    if activation is None:
        return "logits of one class per example"
    return f"outputs of a task with the activation {activation!r}"


def _shares(arrays):
    """Softmax, of the k largest only where no others are stored."""
    if "classes" not in arrays:
        return numpy_softmax(arrays["logits"])
    return numpy_shares(arrays["logits"], arrays["rest"])


def weights_sha256(model):
    """SHA-256 of a model's weights: values and shapes, without names.

    A teacher that is no Keras model says itself what tells it from others.
    """
    if getattr(model, "is_external", False):
        return model.identity()
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(f"{weight.shape}{weight.dtype}".encode())
        # The bytes themselves: a large kernel is not copied.
        digest.update(np.ascontiguousarray(weight).reshape(-1).view("uint8"))
    return digest.hexdigest()
