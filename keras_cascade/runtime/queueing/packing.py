"""Arrays of numbers and of text as bytes, without pickle."""

import io

import numpy as np

# Where NumPy's own format begins with "\x93NUMPY".
_TEXTS = b"\x93TEXTS"


def packed(arrays):
    """Arrays as bytes, one behind the other.

    Numbers in NumPy's format. Texts, an array of `str` objects or one `str`,
    as an array of their lengths in bytes in that format, then their UTF-8.

    Args:
        arrays: iterable of arrays.

    Returns:
        Bytes, for `unpacked`.

    Example:

    >>> from keras_cascade.runtime.queueing.packing import packed, unpacked
    >>> [array.tolist() for array in unpacked(packed(["one", [2, 3]]), 2)]
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


def unpacked(raw, count):
    """The arrays that `packed` made into bytes.

    Args:
        raw: bytes.
        count: int, how many arrays.

    Returns:
        List of arrays; those of text hold `str` objects.
    """
    buffer = io.BytesIO(raw)
    return [_read(buffer) for _ in range(count)]


def as_array(value):
    """An array; of objects, if `value` is text.

    NumPy's own strings would drop NULs at their end.
    """
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
