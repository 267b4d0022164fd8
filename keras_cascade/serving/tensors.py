"""Tensors of Open Inference Protocol v2, over HTTP and gRPC."""

import math

import numpy as np

from keras_cascade.runtime.inputs import TEXT
from keras_cascade.runtime.teachers.v2_tensors import V2_TYPES, split_texts
from keras_cascade.serving.request_error import RequestError, too_many_rows


class TensorReader:
    """Reads the tensors of one v2 request and checks them by the manifest.

    Texts become objects, `str` or `bytes`; their encoding is checked later,
    by `prepare_inputs`, for both protocols alike.

    Args:
        specs: list of `{"name", "shape", "dtype"}`, as in the manifest.
        max_rows: int or `None`, of the first axis. Defaults to `None`.

    Attributes:
        arrays: dict of input name to array, of the tensors read so far.
    """

    def __init__(self, specs, max_rows=None):
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
            values: numbers or texts as a list, flat or nested, where `raw` is
                `None`.

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
        dtype = self._specs[name]["dtype"]
        if datatype != V2_TYPES[dtype]:
            raise RequestError(
                400,
                f"Expected input '{name}' of datatype {V2_TYPES[dtype]}. "
                f"Received: {str(datatype)[:100]!r}.",
            )
        size = _size(name, shape, len(self._specs[name]["shape"]))
        is_text = dtype == TEXT
        if raw is None:
            flat = _from_values(name, size, shape, values, is_text)
        elif is_text:
            flat = self._texts(name, size, shape[0], raw)
        else:
            flat = _from_bytes(name, np.dtype(dtype), size, raw)
        self.arrays[name] = flat.reshape(shape)

    def _texts(self, name, size, rows, raw):
        max_rows = len(raw) if self._max_rows is None else self._max_rows
        # Before the bytes are split, which takes time for each text.
        if max_rows < rows <= len(raw):
            raise too_many_rows(rows, max_rows)
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


def _size(name, shape, rank):
    """Returns the number of elements of a shape, checked: it is any JSON."""
    is_shape = isinstance(shape, list) and all(
        type(size) is int and size >= 0 for size in shape
    )
    if not is_shape or len(shape) != rank:
        raise RequestError(
            400,
            f"Expected input '{name}' with a 'shape' of {rank} sizes, whole "
            f"numbers of at least 0. Received: {str(shape)[:100]}.",
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


def _from_values(name, size, shape, values, is_text):
    if not isinstance(values, list):
        raise RequestError(
            400, f"Expected 'data' of input '{name}' to be a list."
        )
    try:
        array = np.asarray(values, object if is_text else None)
    except (ValueError, OverflowError, RecursionError):
        raise RequestError(
            400,
            f"Expected 'data' of input '{name}' to be {size} numbers. "
            "Received lists of different lengths.",
        ) from None
    if not is_text and array.dtype.kind not in "biuf":
        raise RequestError(
            400,
            f"Expected 'data' of input '{name}' to hold numbers. Received: "
            f"{array.dtype}.",
        )
    if array.size != size or array.shape not in ((size,), tuple(shape)):
        raise RequestError(
            400,
            f"Expected 'data' of input '{name}' to have the shape {shape}, or "
            f"to be a flat list of {size}. Received: {list(array.shape)}.",
        )
    return array.ravel()
