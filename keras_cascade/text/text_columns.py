"""Columns of texts, however they come. No TensorFlow, no Keras."""

import numpy as np


def as_strings(column):
    """A list of str out of an array of str or of UTF-8 bytes.

    Args:
        column: array `(rows,)` or `(rows, 1)`.

    Raises:
        ValueError: a row is not UTF-8.
    """
    texts = []
    for row, one in enumerate(np.asarray(column, object).reshape(-1)):
        try:
            # A surrogate alone is a `str` that no encoding takes.
            text = one.decode() if isinstance(one, bytes) else str(one)
            text.encode()
        except UnicodeError:
            raise ValueError(
                "Expected texts in UTF-8. Received other bytes in row "
                f"{row}: {one[:40]!r}. Decode them with the encoding that "
                "they have."
            ) from None
        texts.append(text)
    return texts


def as_text_arrays(x):
    """Inputs with every column of texts as Keras takes it.

    Args:
        x: list or tuple of str, array of str, a dict of those; or anything
            else, which comes back as it is.

    Returns:
        Arrays of objects in place of texts.
    """
    if isinstance(x, dict):
        return {name: as_text_arrays(one) for name, one in x.items()}
    listed = isinstance(x, (list, tuple)) and x
    if listed and all(isinstance(one, (str, bytes)) for one in x):
        return as_text_arrays(np.array(x, dtype=object))
    if isinstance(x, np.ndarray) and x.dtype.kind in "OSU":
        return np.array(as_strings(x), dtype=object).reshape(x.shape)
    return x


def is_text(array):
    """Whether an array or tensor holds strings."""
    dtype = getattr(array, "dtype", None)
    if isinstance(dtype, np.dtype):
        return dtype.kind in "OSU"
    name = getattr(dtype, "name", dtype)
    return name == "string"
