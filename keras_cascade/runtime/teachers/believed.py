"""A teacher's answer is checked before it is passed on."""

import numpy as np

from keras_cascade.errors import TeacherError


def believed_logits(answer, rows, classes):
    """Returns logits that can be believed.

    Args:
        answer: what a teacher answered.
        rows: int, how many rows it was asked for.
        classes: int, how many classes there are.

    Returns:
        float32 array `(rows, classes)`, finite.

    Raises:
        TeacherError: not numbers, another shape, NaN or infinity.
    """
    try:
        given = np.asarray(answer)
        if given.dtype.kind not in "iuf":
            raise TypeError(f"values of type {given.dtype}")
        with np.errstate(over="ignore"):
            logits = given.astype("float32")
    except (OverflowError, TypeError, ValueError) as error:
        raise TeacherError(
            "Expected the teacher to answer with numbers. Received something "
            f"else ({type(error).__name__}: {str(error)[:200]}).",
            invalid_answer=True,
        ) from error
    if logits.shape != (rows, classes):
        raise TeacherError(
            f"Expected logits of shape {(rows, classes)} from the teacher. "
            f"Received: {logits.shape}.",
            invalid_answer=True,
        )
    if not np.isfinite(logits).all():
        raise TeacherError(
            "The teacher answered NaN or infinity.", invalid_answer=True
        )
    return logits
