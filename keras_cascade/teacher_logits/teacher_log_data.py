"""Training data from the log of a device."""

import os
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_cascade.datasets.batches import take_rows
from keras_cascade.datasets.fingerprint import example_hashes
from keras_cascade.runtime.queueing.teacher_log import TeacherLog
from keras_cascade.teacher_logits.chunk_store import ChunkStore
from keras_cascade.teacher_logits.compressed_logits import compress
from keras_cascade.teacher_logits.teacher_logits_cache import (
    TeacherLogitsCache,
    weights_sha256,
)
from keras_cascade.teacher_logits.views import view_keys


def cache_teacher_log(
    log: str | os.PathLike | TeacherLog,
    path: str | os.PathLike,
    extend: TeacherLogitsCache | None = None,
    teacher: keras.Model | None = None,
) -> tuple[Any, np.ndarray, TeacherLogitsCache]:
    """Converts a device's log to training data with teacher logits.

    The student learns from what it delegated, and the teacher need not run
    again. Nobody has labelled these examples: `y` is the teacher's own top
    class, right as often as the teacher is. On them alone the student would
    forget the rest, so train on both, with a cache that has both:

    ```python
    x_new, y_new, cache = keras_cascade.teacher_logits.cache_teacher_log(
        "device.log", "cache_2", extend=cache_1
    )
    cascade.fit(
        np.concatenate([x, x_new]),
        np.concatenate([y, y_new]),
        teacher_logits=cache,
    )
    ```

    An example that was logged twice, or that `extend` has, is there once.

    Args:
        log: path of a log that `EdgeCascade.load(..., log=path)` kept, or a
            `keras_cascade.runtime.TeacherLog`.
        path: folder of the cache to write. There must be none.
        extend: `TeacherLogitsCache` without augmented views, whose logits the
            new one shall have too. Defaults to `None`.
        teacher: optional `keras.Model` that served the answers. When given,
            `Cascade.fit` refuses to train with another one, and compares some
            logits with it, as it does for `extend`. Leave it out where
            `redact` changed the inputs: the answers are then to what the
            device saw. Defaults to `None`.

    Returns:
        `(x, y, cache)`: the examples, an array or a dict of them; int32 labels
        `(rows,)`; `TeacherLogitsCache`.

    Raises:
        ValueError: nothing was logged, `path` exists, or `extend` is of
            another teacher or cannot be extended.
    """
    x, logits = _read(log)
    if Path(path).exists():
        raise ValueError(
            f"Expected a path for a new cache. '{path}' exists already."
        )
    settings = _settings(extend, teacher, logits.shape[1])
    _, first = np.unique(example_hashes(x), return_index=True)
    first = np.sort(first)
    x, logits = take_rows(x, first), logits[first]
    keys = view_keys(example_hashes(x), 0)
    store = ChunkStore(path)
    store.write_info({**settings, "complete": False})
    fresh = np.ones(len(keys), bool)
    if extend is not None:
        old = ChunkStore(extend.path)
        for chunk in old.chunks():
            shutil.copytree(chunk, Path(path) / chunk.name)
            fresh &= ~np.isin(keys, old.open(chunk)["keys"])
    if fresh.any():
        store.append(
            {
                "keys": keys[fresh],
                **compress(logits[fresh], settings["dtype"], settings["top_k"]),
            }
        )
    store.write_info({**settings, "complete": True})
    return x, logits.argmax(axis=1).astype("int32"), TeacherLogitsCache(path)


def _read(log):
    opened = log if isinstance(log, TeacherLog) else TeacherLog(log)
    try:
        inputs, logits = opened.read()
    finally:
        if opened is not log:
            opened.close()
    return (inputs if len(inputs) > 1 else next(iter(inputs.values()))), logits


def _settings(extend, teacher, classes):
    if extend is None:
        sha256 = None if teacher is None else weights_sha256(teacher)
        return {
            "dtype": "float32", "top_k": None, "views": 1, "augmented": False,
            "teacher_sha256": sha256, "classes": classes,
        }  # fmt: skip
    if extend.info.get("augmented") or extend.views > 1:
        raise ValueError(
            f"Expected a cache of plain examples. '{extend.path}' holds "
            "augmented views, which a log has none of."
        )
    if extend.classes != classes:
        raise ValueError(
            f"Expected a cache of {classes} classes, as in the log. Received: "
            f"{extend.classes}, in '{extend.path}'."
        )
    if teacher is not None:
        extend.check_weights(teacher)
    return {key: v for key, v in extend.info.items() if key != "complete"}
