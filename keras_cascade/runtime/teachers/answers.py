"""Logits from the answers of a teacher: scores, probabilities, one column."""

from __future__ import annotations

import numpy as np

OUTPUTS = ("logits", "probabilities")
#: Probabilities below it become it before the logarithm is taken: log(1e-7)
#: is -16.1.
CLIP = 1e-7


def check_outputs(outputs: str, clip: float) -> None:
    """Raises a `ValueError` unless these describe a teacher's answers."""
    if outputs not in OUTPUTS:
        raise ValueError(
            f"Expected `outputs` out of {list(OUTPUTS)}. Received: {outputs!r}."
        )
    if not 0 < clip < 0.5:
        raise ValueError(
            f"Expected `clip` between 0 and 0.5. Received: {clip!r}."
        )


def logits_of_answers(
    values, outputs: str = "logits", clip: float = CLIP
) -> np.ndarray:
    """Converts a teacher's answers to logits over all classes.

    One column is that of a binary classifier: a score z becomes the logits
    (0, z), a probability p becomes (log(1 - p), log p).

    Args:
        values: array-like `(rows, classes)`, `(rows, 1)` or `(rows,)`.
        outputs: str, `"logits"` or `"probabilities"`.
        clip: float, the least probability. Defaults to `1e-7`.

    Returns:
        float32 array `(rows, classes)`, `classes >= 2`.

    Raises:
        ValueError: no numbers, another number of axes, negative
            probabilities, or probabilities above one.

    Example:

    >>> from keras_cascade.runtime.teachers.answers import logits_of_answers
    >>> logits_of_answers([[2.0], [-1.0]]).tolist()
    [[0.0, 2.0], [0.0, -1.0]]
    """
    values = np.asarray(values)
    if values.dtype.kind not in "iuf" or values.ndim not in (1, 2):
        raise ValueError(
            "Expected the teacher to answer with numbers of shape (rows, "
            f"classes). Received: shape {values.shape} of {values.dtype}."
        )
    values = values.astype("float64").reshape(len(values), -1)
    if outputs == "logits":
        if values.shape[1] == 1:
            values = np.hstack([np.zeros_like(values), values])
        return values.astype("float32")
    answered = values[~np.isnan(values)]
    if answered.size and not (
        answered.min() >= -1e-6 and answered.max() <= 1 + 1e-3
    ):
        raise ValueError(
            "Expected probabilities from a teacher with "
            f"outputs='probabilities'. Received: {answered.min():.3g} to "
            f"{answered.max():.3g}. Pass outputs='logits'."
        )
    if values.shape[1] == 1:
        values = np.hstack([1.0 - values, values])
    return np.log(np.clip(values, clip, 1.0)).astype("float32")
