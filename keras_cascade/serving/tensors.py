"""Open Inference Protocol v2 tensors: names, types, bytes."""

import math

import numpy as np

from keras_cascade.runtime.teachers.v2_types import V2_TYPES
from keras_cascade.serving.request_error import RequestError


class TensorReader:
    """Reads the tensors of one v2 request against a manifest's inputs.

    Args:
        specs: list of `{"name", "shape", "dtype"}`, as in the manifest.
    """

    def __init__(self, specs):
        self._specs = {spec["name"]: spec for spec in specs}
        self.arrays = {}

    def add(self, name, datatype, shape, raw=None, values=None):
        """Reads one tensor.

        Args:
            name: str.
            datatype: str, the protocol's.
            shape: list of int.
            raw: bytes, little-endian and row by row. Defaults to `None`.
            values: numbers as a list, flat or nested, where `raw` is `None`.

        Raises:
            RequestError: not one of the inputs, or not what it says it is.
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
        if raw is not None:
            flat = _from_bytes(name, np.dtype(dtype), size, raw)
        else:
            flat = _from_values(name, size, shape, values)
        self.arrays[name] = flat.reshape(shape)


def _size(name, shape, rank):
    """How many numbers a shape holds, whatever a client wrote into it."""
    whole = isinstance(shape, list) and all(
        type(size) is int and size >= 0 for size in shape
    )
    if not whole or len(shape) != rank:
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


def _from_values(name, size, shape, values):
    if not isinstance(values, list):
        raise RequestError(
            400, f"Expected 'data' of input '{name}' to be a list."
        )
    try:
        array = np.asarray(values)
    except (ValueError, OverflowError, RecursionError):
        raise RequestError(
            400,
            f"Expected 'data' of input '{name}' to be {size} numbers. "
            "Received lists of different lengths.",
        ) from None
    if array.dtype.kind not in "biuf":
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
