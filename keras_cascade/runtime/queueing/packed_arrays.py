"""Arrays of numbers and of text as bytes, without pickle."""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np

# Where NumPy's own format begins with "\x93NUMPY".
_TEXTS = b"\x93TEXTS"


def pack_arrays(arrays: Iterable) -> bytes:
    """Packs arrays into bytes, one behind the other.

    Numbers in NumPy's format. Texts, an array of `str` objects or one `str`,
    as an array of their lengths in bytes in that format, then their UTF-8.

    Args:
        arrays: iterable of arrays.

    Returns:
        Bytes, for `unpack_arrays`.

    Example:

    >>> from keras_cascade.runtime.queueing import packed_arrays
    >>> raw = packed_arrays.pack_arrays(["one", [2, 3]])
    >>> [array.tolist() for array in packed_arrays.unpack_arrays(raw, 2)]
    ['one', [2, 3]]
    """
    buffer = io.BytesIO()
    for array in arrays:
        array = as_array(array)
        if array.dtype.kind == "O":
            encoded = [text.encode("utf-8") for text in array.ravel().tolist()]
            lengths = np.array([len(text) for text in encoded], "int64")
            buffer.write(_TEXTS)
            _write(buffer, lengths.reshape(array.shape))
            buffer.write(b"".join(encoded))
        else:
            _write(buffer, array)
    return buffer.getvalue()


def unpack_arrays(raw: bytes, count: int) -> list[np.ndarray]:
    """Unpacks the bytes of `pack_arrays`.

    Args:
        raw: bytes.
        count: int, how many arrays.

    Returns:
        List of arrays; those of text hold `str` objects.
    """
    buffer = io.BytesIO(raw)
    return [_read(buffer) for _ in range(count)]


def as_array(value) -> np.ndarray:
    """Converts a value to an array; text to an array of objects."""
    # NumPy's own strings would drop NULs at their end.
    return np.asarray(value, object if isinstance(value, str) else None)


def _write(buffer, array):
    np.lib.format.write_array(buffer, array, allow_pickle=False)


def _read(buffer):
    start = buffer.tell()
    if buffer.read(len(_TEXTS)) != _TEXTS:
        buffer.seek(start)
        return np.lib.format.read_array(buffer, allow_pickle=False)
    lengths = np.lib.format.read_array(buffer, allow_pickle=False)
    texts = np.empty(lengths.size, object)
    texts[:] = [
        buffer.read(length).decode("utf-8")
        for length in lengths.ravel().tolist()
    ]
    return texts.reshape(lengths.shape)
