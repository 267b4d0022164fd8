"""The type names of Open Inference Protocol v2."""

import numpy as np

V2_TYPES = {
    "bool": "BOOL", "float16": "FP16", "float32": "FP32", "float64": "FP64",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32",
    "uint64": "UINT64",
}  # fmt: skip
NUMPY_TYPES = {name: dtype for dtype, name in V2_TYPES.items()}


def to_bytes(array):
    """An array's values as the protocol's binary form: little-endian."""
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def from_bytes(raw, datatype, shape):
    """The array that a binary tensor holds.

    Args:
        raw: bytes.
        datatype: str, the protocol's name of the type.
        shape: list of int.

    Raises:
        ValueError: another type than of numbers, or bytes that do not fit
            the shape.
    """
    dtype = NUMPY_TYPES.get(datatype)
    if dtype is None:
        raise ValueError(f"datatype '{datatype}'")
    values = np.frombuffer(raw, np.dtype(dtype).newbyteorder("<"))
    return values.reshape(shape).astype(dtype)
