"""Resumable pass of the teacher over a data set, written in chunks."""

import os
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_cascade import tasks
from keras_cascade.datasets.batches import (
    concatenate_rows,
    row_form,
    rows_of,
    rows_within,
    take_rows,
)
from keras_cascade.datasets.fingerprint import example_hashes
from keras_cascade.datasets.labelled_data import LabelledData
from keras_cascade.model_checks import check_model_outputs, check_outputs
from keras_cascade.models.logits_model import (
    logits_model,
    logits_model_on,
    outputs_model,
)
from keras_cascade.prediction import inference
from keras_cascade.teacher_logits.chunk_store import (
    ChunkStore,
    in_temporary_folder,
)
from keras_cascade.teacher_logits.compressed_logits import (
    DTYPES,
    check_top_k,
    compress,
    compress_outputs,
)
from keras_cascade.teacher_logits.teacher_logits_cache import (
    TeacherLogitsCache,
    weights_sha256,
)
from keras_cascade.teacher_logits.views import augmented, key_arrays
from keras_cascade.teachers.teacher_model import as_keras_teacher
from keras_cascade.utils.answer_form import LINEAR
from keras_cascade.utils.progress import counted


def cache_teacher_logits(
    dataset: Any,
    teacher: Any,
    path: str | os.PathLike | None = None,
    dtype: str | None = None,
    top_k: int | None = None,
    views: int = 1,
    augment: Callable | None = None,
    batch_size: int = 256,
    chunk_examples: int = 4096,
    task: "str | dict | tasks.Task | None" = None,
) -> TeacherLogitsCache:
    """Computes the teacher's logits once and stores them on disk.

    Stopped at any moment and called again, it goes on after the last complete
    chunk. A complete cache of the same teacher is opened as it is.

    Args:
        dataset: arrays, `(x, y)`, or batches of those; labels are not read.
            An example that comes twice is computed once.
        teacher: `keras.Model`, as `Cascade` takes it, a `Cascade`, or what
            `keras_cascade.teachers.get` takes. Rows without an answer are
            stored as such: the student learns from their labels. A paid
            teacher's answers are kept in the cache's folder one by one.
        path: folder of the cache. Defaults to `None`: a temporary one, for as
            long as the cache is in use.
        dtype: `"float16"` or `"float32"`. Half precision moves probabilities
            by about 0.001. Defaults to `None`: `"float16"`, or `"float32"`
            for a task without softmax or sigmoid, such as a regression.
        top_k: int, or `None` for all logits. Keeps the k largest and the sum
            of the rest; for thousands of classes. Defaults to `None`.
        views: int, how many seeded augmented views of every example to cache.
            Defaults to `1`: the plain example.
        augment: TensorFlow function of `(example, seed)`; needed for more
            than one view. View 0 is augmented too. Defaults to `None`.
        batch_size: int, of the teacher. Defaults to `256`.
        chunk_examples: int, how many examples' logits are kept at a time,
            until they are written. Defaults to `4096`.
        task: name, dict or `keras_cascade.tasks.Task`, that of the cascade.
            Of another task than one class per example the outputs are stored
            as they are, in their shape. Defaults to `None`: one class per
            example.

    Returns:
        `TeacherLogitsCache`, for the `teacher_logits=` of `Cascade.fit`,
        `judge` and `calibrate`.

    Raises:
        ValueError: the folder holds the logits of another teacher, or was
            made with other settings; or `top_k` with another task.
    """
    task = tasks.get(task)
    if dtype is None:
        dtype = "float32" if task.activation == LINEAR else "float16"
    _check(dtype, views, augment)
    if not task.one_class_per_example and top_k is not None:
        raise ValueError(
            f"Expected no `top_k` with {task!r}, all outputs of which are "
            f"stored. Received: {top_k!r}."
        )
    if path is None:
        return in_temporary_folder(
            lambda folder: cache_teacher_logits(
                dataset,
                teacher,
                folder,
                dtype,
                top_k,
                views,
                augment,
                batch_size,
                chunk_examples,
                task,
            )
        )
    data = LabelledData.from_argument(dataset, batch_size=batch_size)
    teacher = _outputs_of(teacher, task)
    if not teacher.built:
        teacher(data.first_rows(1))
    store = ChunkStore(path)
    settings = {
        "dtype": dtype,
        "top_k": top_k,
        "views": views,
        "augmented": augment is not None,
        "batch_size": batch_size,
        "chunk_examples": chunk_examples,
        "teacher_sha256": weights_sha256(teacher),
    }
    if not task.one_class_per_example:
        settings["activation"] = task.activation
    known = store.read_info()
    if getattr(teacher, "is_external", False) and (
        known is None or known["teacher_sha256"] == settings["teacher_sha256"]
    ):
        teacher.teacher.keep_answers_in(path)
    if known is not None:
        _check_same_settings(path, known, settings)
    else:
        store.write_info({**settings, "complete": False})
    if known is None or not known["complete"]:
        shape = _fill(store, data, teacher, settings, augment)
        settings["classes"] = shape[-1]
        if not task.one_class_per_example:
            settings["shape"] = shape
        store.write_info({**settings, "complete": True})
    return TeacherLogitsCache(path, teacher, augment)


def _outputs_of(teacher, task):
    """The model whose outputs are stored, before the task's activation."""
    if task.one_class_per_example:
        return logits_model(as_keras_teacher(teacher))
    if not isinstance(teacher, keras.Model):
        raise ValueError(
            f"Expected a teacher that is a `keras.Model` with {task!r}. "
            f"Received: {type(teacher).__name__}."
        )
    return outputs_model(teacher, task.activation)


def _fill(store, data, teacher, settings, augment):
    """Appends missing chunks; returns the shape of an example's outputs."""
    done = {
        int(key)
        for chunk in store.chunks()
        for key in store.open(chunk)["keys"]
    }
    # Others check their own answers, and may be paid for each.
    external = getattr(teacher, "is_external", False)
    if not external and "activation" not in settings:
        teacher, _ = logits_model_on("teacher", teacher, data.first_rows())
    run = inference(teacher)
    views = range(settings["views"])
    chunk = _Chunk(store, settings)

    def logits_of(x):
        outputs = run(x)
        return outputs["logits"] if isinstance(outputs, dict) else outputs

    batches = _new_examples(data, done, chunk, settings["batch_size"])
    for x, hashes in counted(
        batches, "Asking the teacher", lambda batch: len(batch[1])
    ):
        for view in views:
            seen = x if augment is None else augmented(x, hashes, view, augment)
            chunk.add(view, key_arrays(x, hashes, view), logits_of(seen))
        chunk.close_if_full()
    chunk.close()
    if chunk.shape is None:  # a crash came after the last chunk
        return list(logits_of(data.first_rows(1)).shape[1:])
    return chunk.shape


class _Chunk:
    """Answers of the teacher until they are stored. The inputs are not kept.

    Args:
        store: `ChunkStore`.
        settings: dict, of the cache.

    Attributes:
        shape: list of int, of an example's outputs, or `None` before the
            first answer.
        missing: int, how many examples the chunk has room for.
    """

    def __init__(self, store, settings):
        self.shape = None
        self._store = store
        self._settings = settings
        self._clear()

    def _clear(self):
        self._views = [{} for _ in range(self._settings["views"])]
        self.missing = self._settings["chunk_examples"]

    def add(self, view, keys, logits):
        """Adds the answers to one view of a batch."""
        if "activation" in self._settings:
            compressed = self._of_task(logits)
        else:
            compressed = self._of_classes(logits)
        keys.setdefault("cast", keys["keys"])
        for name, array in {**keys, **compressed}.items():
            self._views[view].setdefault(name, []).append(array)
        if view == 0:
            self.missing -= len(logits)

    def _of_classes(self, logits):
        top_k = self._settings["top_k"]
        if self.shape is None:
            answered = logits[~np.isnan(logits).all(axis=1)][:32]
            if len(answered):
                check_model_outputs("teacher", answered)
            self.shape = [logits.shape[1]]
            check_top_k(top_k, logits.shape[1])
        return compress(logits, self._settings["dtype"], top_k)

    def _of_task(self, outputs):
        # Probabilities are looked for in the first batch, NaN in every one.
        first = self.shape is None
        activation = self._settings["activation"] if first else LINEAR
        check_outputs("teacher", outputs, activation)
        shape = list(outputs.shape[1:])
        if self.shape not in (None, shape):
            raise ValueError(
                "Expected outputs of the teacher of one shape for every "
                f"example. Received: {tuple(self.shape)} and {tuple(shape)}. "
                "Train without a cache, or make the inputs of one size."
            )
        self.shape = shape
        return compress_outputs(outputs, self._settings["dtype"])

    def close_if_full(self):
        """Stores the chunk where it has no room left."""
        if self.missing <= 0:
            self.close()

    def close(self):
        """Stores what the chunk holds."""
        if not self._views[0]:
            return
        arrays = {
            name: np.concatenate([np.concatenate(v[name]) for v in self._views])
            for name in self._views[0]
        }
        if np.array_equal(arrays["cast"], arrays["keys"]):
            del arrays["cast"]
        self._store.append(arrays)
        self._clear()


def _new_examples(data, done, chunk, batch_size):
    """Yields `(x, hashes)` of new examples, in batches for the teacher.

    A batch ends where a chunk does, so that a resumed run writes the same
    chunks as one that was never stopped. Examples of one length or size make
    up a batch, and fewer of them where they are large.
    """
    buffers = {}
    for x, _, _ in data.checked_batches():
        if not rows_of(x):
            continue
        hashes = example_hashes(x)
        fresh = []
        for row, key in enumerate(hashes.tolist()):
            if key not in done:
                done.add(key)
                fresh.append(row)
        if not fresh:
            continue
        buffer = buffers.setdefault(row_form(x), ([], []))
        buffer[0].append(take_rows(x, np.array(fresh)))
        buffer[1].append(hashes[fresh])
        limit = min(batch_size, rows_within(x))
        while sum(map(len, buffer[1])) >= (size := min(limit, chunk.missing)):
            whole, keys = map(_joined, buffer)
            yield take_rows(whole, slice(0, size)), keys[:size]
            buffer[0][:] = [take_rows(whole, slice(size, None))]
            buffer[1][:] = [keys[size:]]
    for buffer in buffers.values():
        whole, keys = map(_joined, buffer)
        for start, stop in _cuts(len(keys), chunk, batch_size):
            yield take_rows(whole, slice(start, stop)), keys[start:stop]


def _joined(parts):
    return parts[0] if len(parts) == 1 else concatenate_rows(parts)


def _cuts(rows, chunk, batch_size):
    start = 0
    while start < rows:
        stop = min(rows, start + batch_size, start + chunk.missing)
        yield start, stop
        start = stop


def _check(dtype, views, augment):
    if dtype not in DTYPES:
        raise ValueError(f"Expected `dtype` out of {DTYPES}. Got {dtype!r}.")
    if not (isinstance(views, int) and views >= 1):
        raise ValueError(f"Expected `views` >= 1. Received: {views!r}.")
    if views > 1 and augment is None:
        raise ValueError(
            "More than one view needs `augment`, a function of "
            "`(example, seed)`. Received: None."
        )


def _check_same_settings(path, known, settings):
    for name in (*settings, "activation"):
        value = settings.get(name)
        if known.get(name) != value:
            what = (
                "by a teacher with other weights"
                if name == "teacher_sha256"
                else "for another task"
                if name == "activation"
                else f"with {name}={known.get(name)!r}, not {value!r}"
            )
            raise ValueError(
                f"The cache at '{path}' was made {what}. Delete it, or choose "
                "another path."
            )
