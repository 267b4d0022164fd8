"""Compressed logits: half precision, or the k largest."""

import numpy as np

DTYPES = ("float16", "float32")


def compress(logits, dtype, top_k):
    """Compresses logits into the arrays that are stored.

    Every row is shifted so that its largest logit is 0, which changes no
    softmax and keeps half precision where it is finest.

    Args:
        logits: float array `(rows, classes)`.
        dtype: `"float16"` or `"float32"`.
        top_k: int or `None`. With an int, the k largest logits, their
            classes, and the logsumexp of the rest are kept.

    Returns:
        Dict of name to array.
    """
    logits = np.asarray(logits, dtype="float32")
    logits = logits - logits.max(axis=1, keepdims=True)
    if top_k is None:
        return {"logits": _narrowed(logits, dtype)}
    order = np.argpartition(-logits, top_k - 1, axis=1)
    best, rest = order[:, :top_k], order[:, top_k:]
    tail = np.take_along_axis(logits, rest, axis=1).astype("float64")
    with np.errstate(divide="ignore"):
        remainder = np.log(np.exp(tail).sum(axis=1))
    return {
        "logits": _narrowed(np.take_along_axis(logits, best, axis=1), dtype),
        "classes": best.astype("int32"),
        "rest": np.maximum(remainder, -1e4).astype("float32"),
    }


def expand(arrays, classes):
    """Inverse of `compress`: float32 logits `(rows, classes)`.

    With top-k, the other classes share the rest of the softmax evenly.
    """
    kept = np.asarray(arrays["logits"], dtype="float32")
    if "classes" not in arrays:
        return kept
    others = classes - kept.shape[1]
    level = np.asarray(arrays["rest"]) - np.log(max(others, 1))
    logits = np.repeat(level[:, None].astype("float32"), classes, axis=1)
    np.put_along_axis(logits, np.asarray(arrays["classes"]), kept, axis=1)
    return logits


def _narrowed(logits, dtype):
    limit = np.finfo(dtype).max
    return np.clip(logits, -limit, limit).astype(dtype)
