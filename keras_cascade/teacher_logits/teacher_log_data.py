"""Training data from the log of a device."""

import os
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_cascade.datasets.batches import concatenate_rows, take_rows
from keras_cascade.datasets.fingerprint import example_hashes
from keras_cascade.runtime.queueing.teacher_log import TeacherLog
from keras_cascade.teacher_logits.chunk_store import ChunkStore
from keras_cascade.teacher_logits.compressed_logits import (
    check_top_k,
    compress,
)
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
    top_k: int | None = None,
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
        top_k: int, keeps the k largest logits of an example and the sum of
            the rest; for thousands of classes. Defaults to `None`: as
            `extend`, or all logits.

    Returns:
        `(x, y, cache)`: the examples, an array or a dict of them; int32 labels
        `(rows,)`; `TeacherLogitsCache`.

    Raises:
        ValueError: nothing was logged, `path` exists, or `extend` is of
            another teacher or cannot be extended.
    """
    if Path(path).exists():
        raise ValueError(
            f"Expected a path for a new cache. '{path}' exists already."
        )
    opened = log if isinstance(log, TeacherLog) else TeacherLog(log)
    try:
        x, y = _write(opened, ChunkStore(path), extend, teacher, top_k)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
    finally:
        if opened is not log:
            opened.close()
    return x, y, TeacherLogitsCache(path)


def _write(log, store, extend, teacher, top_k):
    """Writes the cache batch by batch; returns the examples and labels."""
    seen: set[int] = set()
    inputs, labels, settings, stored = [], [], None, np.empty(0, "uint64")
    for arrays, logits in log.read_batches():
        if settings is None:
            settings = _settings(extend, teacher, logits.shape[1], top_k)
            store.write_info({**settings, "complete": False})
            if extend is not None:
                stored = _copied(extend, store)
        x = arrays if len(arrays) > 1 else next(iter(arrays.values()))
        keys = view_keys(example_hashes(x), 0)
        fresh = np.array([_is_new(key, seen) for key in keys.tolist()])
        if not fresh.any():
            continue
        inputs.append(take_rows(x, fresh))
        labels.append(logits[fresh].argmax(axis=1).astype("int32"))
        fresh &= ~np.isin(keys, stored)
        if fresh.any():
            store.append(
                {
                    "keys": keys[fresh],
                    **compress(
                        logits[fresh], settings["dtype"], settings["top_k"]
                    ),
                }
            )
    store.write_info({**settings, "complete": True})
    return _joined(inputs), np.concatenate(labels)


def _is_new(key, seen):
    new = key not in seen
    seen.add(key)
    return new


def _copied(cache, store):
    """Copies a cache's chunks; returns their keys."""
    old, keys = ChunkStore(cache.path), [np.empty(0, "uint64")]
    for chunk in old.chunks():
        shutil.copytree(chunk, store.path / chunk.name)
        keys.append(old.open(chunk)["keys"])
    return np.concatenate(keys)


def _joined(parts):
    try:
        return concatenate_rows(parts)
    except ValueError:
        raise ValueError(
            "Expected rows of one size in the log. Received several. Let each "
            "size of input have a log of its own."
        ) from None


def _settings(extend, teacher, classes, top_k):
    if extend is None:
        check_top_k(top_k, classes)
        sha256 = None if teacher is None else weights_sha256(teacher)
        return {
            "dtype": "float32", "top_k": top_k, "views": 1, "augmented": False,
            "teacher_sha256": sha256, "classes": classes,
        }  # fmt: skip
    if top_k not in (None, extend.top_k):
        raise ValueError(
            f"Expected the `top_k` of the cache '{extend.path}' or None. "
            f"Received: {top_k!r}, where that has {extend.top_k!r}."
        )
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
