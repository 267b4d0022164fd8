"""Columns of texts as arrays and lists. No TensorFlow, no Keras."""

import numpy as np
import numpy.typing as npt


def as_strings(column: npt.ArrayLike) -> list[str]:
    """Converts an array of str or of UTF-8 bytes to a list of str.

    Args:
        column: array `(rows,)` or `(rows, 1)`.

    Raises:
        ValueError: a row is not UTF-8.
    """
    rows = np.asarray(column, object).reshape(-1)
    return [_as_string(value, row) for row, value in enumerate(rows)]


def as_text_arrays(x):
    """Converts columns of texts in a cascade's inputs to arrays of objects.

    Args:
        x: list or tuple of str, array of str, a dict of those; or anything
            else, which is returned as it is.

    Returns:
        `x` with arrays of objects in place of texts, as Keras takes them.
    """
    if isinstance(x, dict):
        return {name: as_text_arrays(column) for name, column in x.items()}
    is_list = isinstance(x, (list, tuple)) and x
    if is_list and all(isinstance(value, (str, bytes)) for value in x):
        return as_text_arrays(np.array(x, dtype=object))
    if isinstance(x, np.ndarray) and x.dtype.kind in "OSU":
        strings = np.empty(x.size, object)
        strings[:] = [
            # Other values stay, so that the input checks can name the row.
            _as_string(value, row) if isinstance(value, (str, bytes)) else value
            for row, value in enumerate(x.reshape(-1).tolist())
        ]
        return strings.reshape(x.shape)
    return x


def is_text(array) -> bool:
    """Returns `True` for an array or tensor of strings."""
    dtype = getattr(array, "dtype", None)
    if isinstance(dtype, np.dtype):
        return dtype.kind in "OSU"
    name = getattr(dtype, "name", dtype)
    return name == "string"


def _as_string(value, row):
    if not isinstance(value, (str, bytes)):
        raise ValueError(
            f"Expected a text. Received: {type(value).__name__} in row {row}."
        )
    try:
        # A surrogate alone is a `str` that no encoding takes.
        text = value.decode() if isinstance(value, bytes) else str(value)
        text.encode()
    except UnicodeError:
        raise ValueError(
            "Expected texts in UTF-8. Received other bytes in row "
            f"{row}: {value[:40]!r}. Decode them with the encoding that they "
            "have."
        ) from None
    return text
