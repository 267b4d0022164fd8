"""Columns of texts, however they come. No TensorFlow, no Keras."""

import numpy as np


def as_strings(column):
    """A list of str out of an array of str or of UTF-8 bytes.

    Args:
        column: array `(rows,)` or `(rows, 1)`.

    Raises:
        ValueError: a row is not UTF-8.
    """
    rows = np.asarray(column, object).reshape(-1)
    return [_as_string(one, row) for row, one in enumerate(rows)]


def _as_string(one, row):
    if not isinstance(one, (str, bytes)):
        raise ValueError(
            f"Expected a text. Received: {type(one).__name__} in row {row}."
        )
    try:
        # A surrogate alone is a `str` that no encoding takes.
        text = one.decode() if isinstance(one, bytes) else str(one)
        text.encode()
    except UnicodeError:
        raise ValueError(
            "Expected texts in UTF-8. Received other bytes in row "
            f"{row}: {one[:40]!r}. Decode them with the encoding that they "
            "have."
        ) from None
    return text


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
        made = np.empty(x.size, object)
        made[:] = [
            # What is no text stays, for the checks to name.
            _as_string(one, row) if isinstance(one, (str, bytes)) else one
            for row, one in enumerate(x.reshape(-1).tolist())
        ]
        return made.reshape(x.shape)
    return x


def is_text(array):
    """Whether an array or tensor holds strings."""
    dtype = getattr(array, "dtype", None)
    if isinstance(dtype, np.dtype):
        return dtype.kind in "OSU"
    name = getattr(dtype, "name", dtype)
    return name == "string"
