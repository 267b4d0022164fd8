"""Tensors of Open Inference Protocol v2, over HTTP and gRPC."""

import math

import numpy as np

from keras_cascade.runtime.inputs import TEXT
from keras_cascade.runtime.teachers.v2_tensors import V2_TYPES, split_texts
from keras_cascade.serving.json_tensors import (
    Slice,
    first_character,
    read_numbers,
    read_texts,
)
from keras_cascade.serving.request_error import RequestError, too_many_rows

#: Elements of an empty tensor, with sizes of 0 counted as 1.
MAX_SIZE = 2**31 - 1


class TensorReader:
    """Reads the tensors of one v2 request and checks them by the manifest.

    Texts become objects, `str` or `bytes`; their encoding is checked later,
    by `prepare_inputs`, for both protocols alike.

    Args:
        specs: list of `{"name", "shape", "dtype"}`, as in the manifest.
        max_rows: int, of the first axis.

    Attributes:
        arrays: dict of input name to array, of the tensors read so far.
    """

    def __init__(self, specs, max_rows):
        self._specs = {spec["name"]: spec for spec in specs}
        self._max_rows = max_rows
        self.arrays = {}

    def add(self, name, datatype, shape, raw=None, values=None):
        """Reads one tensor into `arrays`.

        Args:
            name: str.
            datatype: str, the protocol's.
            shape: list of int.
            raw: bytes, little-endian and row by row. Defaults to `None`.
            values: numbers or texts as a list, flat or nested, a `Slice` of
                JSON with one, or an array of numbers, where `raw` is `None`.

        Raises:
            RequestError: not an input, or data that contradicts its type or
                shape.
        """
        if not isinstance(name, str) or name not in self._specs:
            raise RequestError(
                400,
                f"Expected the inputs {list(self._specs)}. Received: "
                f"{str(name)[:100]!r}.",
            )
        if name in self.arrays:
            raise RequestError(400, f"Expected input '{name}' once, not twice.")
        spec = self._specs[name]
        dtype = spec["dtype"]
        if datatype != V2_TYPES[dtype]:
            raise RequestError(
                400,
                f"Expected input '{name}' of datatype {V2_TYPES[dtype]}. "
                f"Received: {str(datatype)[:100]!r}.",
            )
        # Before anything is converted, which takes time for each value.
        size = _size(spec, shape)
        # More rows than there can be in the data are another mistake.
        if self._max_rows < shape[0] <= _length(raw, values):
            raise too_many_rows(shape[0], self._max_rows)
        if raw is None:
            flat = _from_values(spec, size, shape, values, self._max_rows)
        elif dtype == TEXT:
            flat = _texts(name, size, raw)
        else:
            flat = _from_bytes(name, np.dtype(dtype), size, raw)
        self.arrays[name] = flat.reshape(shape)


def _length(raw, values):
    """Returns a bound on the number of values, whatever they are."""
    if raw is None and isinstance(values, Slice):
        raw = memoryview(values)
    if raw is not None:
        return len(raw)
    return len(values) if isinstance(values, (list, np.ndarray)) else 0


def _texts(name, size, raw):
    try:
        parts = split_texts(raw, size)
    except ValueError as error:
        raise RequestError(
            400,
            f"Expected {size} texts in the bytes of input '{name}', each "
            "after its length as 4 bytes, little-endian. Received: "
            f"{error}.",
        ) from None
    texts = np.empty(size, object)
    texts[:] = parts
    return texts


def _size(spec, shape):
    """Returns the number of elements of a shape, checked: it is any JSON."""
    name, expected = spec["name"], spec["shape"]
    is_shape = isinstance(shape, list) and all(
        type(size) is int and size >= 0 for size in shape
    )
    if not is_shape or len(shape) != len(expected):
        raise RequestError(
            400,
            f"Expected input '{name}' with a 'shape' of {len(expected)} sizes, "
            f"whole numbers of at least 0. Received: {str(shape)[:100]}.",
        )
    if any(
        n not in (None, size)
        for n, size in zip(expected[1:], shape[1:], strict=True)
    ):
        raise RequestError(
            400,
            f"Expected input '{name}' of shape {['batch', *expected[1:]]}. "
            f"Received: {str(shape)[:100]}.",
        )
    if shape[0] == 0:
        raise RequestError(
            400, f"Expected at least one row in input '{name}'. Received none."
        )
    # NumPy has no array of 0 x 2^62 elements; others need as much data.
    if 0 in shape and math.prod(size or 1 for size in shape) > MAX_SIZE:
        raise RequestError(
            400,
            f"Expected input '{name}' with a 'shape' of at most {MAX_SIZE} "
            f"elements. Received: {str(shape)[:100]}.",
        )
    return math.prod(shape)


def _from_bytes(name, dtype, size, raw):
    if len(raw) != size * dtype.itemsize:
        raise RequestError(
            400,
            f"Expected {size * dtype.itemsize} bytes for input '{name}', "
            f"{size} of {dtype}. Received: {len(raw)}.",
        )
    if dtype.kind == "b":
        flags = np.frombuffer(raw, "uint8")
        if (flags > 1).any():
            raise RequestError(
                400, f"Expected bytes 0 and 1 in input '{name}'."
            )
        return flags.astype(bool)
    return np.frombuffer(raw, dtype.newbyteorder("<")).astype(dtype, copy=False)


def _from_values(spec, size, shape, values, max_rows):
    name = spec["name"]
    if isinstance(values, np.ndarray):  # numbers of a gRPC message
        if values.size != size:
            raise _wrong_data(name, shape, size, values.shape)
        return values
    is_list = isinstance(values, list) or (
        isinstance(values, Slice) and first_character(values) == b"["
    )
    if not is_list:
        raise RequestError(
            400, f"Expected 'data' of input '{name}' to be a list."
        )
    shapes = [(size,), tuple(shape)]
    if spec["dtype"] != TEXT:
        return read_numbers(values, spec, shapes=shapes).ravel()
    values = read_texts(values, spec, max_rows)
    try:
        array = np.asarray(values, object)
    except (ValueError, RecursionError):
        raise RequestError(
            400,
            f"Expected 'data' of input '{name}' to be {size} texts. Received "
            "lists of different lengths.",
        ) from None
    if array.shape not in shapes:
        raise _wrong_data(name, shape, size, array.shape)
    return array.ravel()


def _wrong_data(name, shape, size, received):
    return RequestError(
        400,
        f"Expected 'data' of input '{name}' to have the shape {shape}, or to "
        f"be a flat list of {size}. Received: {list(received)}.",
    )
