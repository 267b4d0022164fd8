"""Cross-fitted teacher logits."""

import os
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_cascade import tasks
from keras_cascade.datasets.array_splits import stratified_folds
from keras_cascade.datasets.batches import (
    DEFAULT_BATCH_SIZE,
    rows_of,
    take_rows,
    to_numpy,
)
from keras_cascade.datasets.fingerprint import example_hashes
from keras_cascade.datasets.labelled_data import LabelledData
from keras_cascade.model_checks import check_outputs
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
    check_top_k,
    compress,
    compress_outputs,
)
from keras_cascade.teacher_logits.teacher_logits_cache import (
    TeacherLogitsCache,
)
from keras_cascade.teacher_logits.views import key_arrays

#: Logits that are kept in memory until they are written, at least.
CHUNK_VALUES = 2**22


def cross_fit_teacher_logits(
    build_teacher: Callable[[], keras.Model],
    dataset: tuple,
    folds: int,
    path: str | os.PathLike | None = None,
    seed: int = 0,
    batch_size: int = 256,
    top_k: int | None = None,
    task: "str | dict | tasks.Task | None" = None,
    **fit_kwargs: Any,
) -> TeacherLogitsCache:
    """Computes logits of each example by a teacher not trained on it.

    A teacher is overconfident on its own training data: nearly every margin
    is close to 1. Here the data is cut into `folds` parts, by class (at random
    with another task); for each part a new teacher is trained on the others,
    and answers the part.

    Args:
        build_teacher: function without arguments that returns a new compiled
            `keras.Model`, as `Cascade` takes it.
        dataset: arrays `(x, y)`.
        folds: int >= 2.
        path: folder of the cache, which must not exist. Defaults to `None`:
            a temporary one, for as long as the cache is in use.
        seed: int, of the folds. Defaults to `0`.
        batch_size: int, of the teachers' answers. Defaults to `256`.
        top_k: int, or `None` for all logits. Keeps the k largest and the sum
            of the rest; for thousands of classes. Defaults to `None`.
        task: name, dict or `keras_cascade.tasks.Task`, that of the cascade.
            Defaults to `None`: one class per example.
        **fit_kwargs: of the teachers' `fit`, such as `epochs`.

    Returns:
        `TeacherLogitsCache`, for `Cascade.fit(teacher_logits=...)`. No single
        teacher gave these logits, so none is compared with them.
    """
    task = tasks.get(task)
    if not task.one_class_per_example and top_k is not None:
        raise ValueError(
            f"Expected no `top_k` with {task!r}, all outputs of which are "
            f"stored. Received: {top_k!r}."
        )
    data = LabelledData.from_argument(dataset, batch_size=batch_size)
    if not data.is_arrays or data.y is None:
        raise ValueError(
            "Expected arrays `(x, y)`. Received: "
            f"{'batches' if data.y is None else type(data.x).__name__}."
        )
    x, y = data.x, data.y
    labels = np.zeros(len(y), dtype="int64")
    if task.one_class_per_example:
        if y.ndim == 2 and y.shape[1] == 1:
            y = y.reshape(-1)
        labels = y if y.ndim == 1 else y.argmax(axis=-1)  # one-hot
    if not (isinstance(folds, int) and 2 <= folds <= len(y)):
        raise ValueError(
            f"Expected `folds` from 2 to {len(y)}. Received: {folds!r}."
        )
    if path is None:
        return in_temporary_folder(
            lambda folder: cross_fit_teacher_logits(
                build_teacher,
                dataset,
                folds,
                folder,
                seed,
                batch_size,
                top_k,
                task,
                **fit_kwargs,
            )
        )
    store = ChunkStore(path)
    if store.path.exists():
        raise ValueError(
            f"'{path}' exists already. Expected: a path that does not."
        )
    hashes = np.concatenate(
        [example_hashes(inputs) for inputs, _, _ in data.batches()]
    )
    fit_kwargs.setdefault("verbose", 0)
    shape: tuple = ()
    for inside, outside in stratified_folds(labels, folds, seed):
        teacher = build_teacher()
        teacher.fit(take_rows(x, inside), y[inside], **fit_kwargs)
        part = take_rows(x, outside)
        first = to_numpy(take_rows(part, slice(0, DEFAULT_BATCH_SIZE)))
        if task.one_class_per_example:
            teacher, _ = logits_model_on(
                "teacher", logits_model(teacher), first
            )
        else:
            teacher = outputs_model(teacher, task.activation)
            check_outputs("teacher", teacher(first), task.activation)
        store.path.mkdir(parents=True, exist_ok=True)
        shape = _answer(
            store, inference(teacher), part, hashes[outside], batch_size,
            top_k, task,
        )  # fmt: skip
    info = {
        "dtype": "float32",
        "top_k": top_k,
        "views": 1,
        "classes": shape[-1],
        "teacher_sha256": None,
        "folds": folds,
        "complete": True,
    }
    if not task.one_class_per_example:
        info |= {"activation": task.activation, "shape": shape}
    store.write_info(info)
    return TeacherLogitsCache(path)


def _answer(store, run, x, hashes, batch_size, top_k, task):
    """Appends a teacher's answers to a part; returns their shape."""
    waiting, values, shape = [], 0, ()
    for start in range(0, rows_of(x), batch_size):
        batch = slice(start, start + batch_size)
        inputs = to_numpy(take_rows(x, batch))
        outputs = run(inputs)
        shape = outputs.shape[1:]
        if task.one_class_per_example:
            check_top_k(top_k, shape[-1])
            arrays = compress(outputs, "float32", top_k)
        else:
            arrays = compress_outputs(outputs, "float32")
        keys = key_arrays(inputs, hashes[batch])
        keys.setdefault("cast", keys["keys"])
        waiting.append({**keys, **arrays})
        values += arrays["logits"].size
        if values >= CHUNK_VALUES:
            _append(store, waiting)
            waiting, values = [], 0
    if waiting:
        _append(store, waiting)
    return shape


def _append(store, parts):
    """Appends a chunk of several batches."""
    arrays = {
        name: np.concatenate([part[name] for part in parts])
        for name in parts[0]
    }
    if np.array_equal(arrays["cast"], arrays["keys"]):
        del arrays["cast"]
    store.append(arrays)
