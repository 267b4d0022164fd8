"""Compressed logits: half precision, or the k largest; raw outputs."""

import numpy as np

from keras_cascade.utils.numpy_top_k import dense_logits, top_k_arrays

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
    if top_k is None:
        logits = np.asarray(logits, dtype="float32")
        logits = logits - logits.max(axis=1, keepdims=True)
        return {"logits": _narrowed(logits, dtype)}
    top = top_k_arrays(logits, top_k)
    highest = top["logits"][:, :1]
    return {
        "logits": _narrowed(top["logits"] - highest, dtype),
        "classes": top["classes"],
        "rest": top["rest"] - highest[:, 0],
    }


def compress_outputs(outputs, dtype):
    """Converts a task's outputs, of any shape, to what is stored, unshifted.

    Half precision keeps 11 bits: an output z is rounded by at most
    `|z| / 2048`.

    Args:
        outputs: float array, batch first.
        dtype: `"float16"` or `"float32"`.

    Returns:
        Dict of `logits`.

    Raises:
        ValueError: an output that half precision cannot hold.
    """
    outputs = np.asarray(outputs, dtype="float32")
    largest = np.abs(outputs).max(initial=0.0)
    if largest > np.finfo(dtype).max:
        raise ValueError(
            f"Expected outputs of the teacher up to {np.finfo(dtype).max:.0f}, "
            f"which {dtype} holds. Received: {largest:.4g}. Pass "
            "`dtype='float32'`."
        )
    return {"logits": outputs.astype(dtype)}


def expand(arrays, classes):
    """Inverse of `compress`: float32 logits `(rows, classes)`.

    With top-k, the other classes share the rest of the softmax evenly.
    """
    if "classes" not in arrays:
        return np.asarray(arrays["logits"], dtype="float32")
    return dense_logits(
        arrays["logits"], arrays["classes"], arrays["rest"], classes
    )


def check_top_k(top_k, classes):
    """Raises unless the k largest of so many logits can be kept.

    Args:
        top_k: int or `None`.
        classes: int.
    """
    if top_k is not None and not 2 <= top_k < classes:
        raise ValueError(
            f"Expected `top_k` from 2 to {classes - 1}, or None. Received: "
            f"{top_k!r}."
        )


def _narrowed(logits, dtype):
    limit = np.finfo(dtype).max
    return np.clip(logits, -limit, limit).astype(dtype)
