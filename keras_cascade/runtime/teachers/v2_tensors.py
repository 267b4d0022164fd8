"""Tensors of Open Inference Protocol v2: type names and binary form."""

from __future__ import annotations

import struct

import numpy as np

from keras_cascade.runtime.inputs import TEXT

V2_TYPES = {
    "bool": "BOOL", "float16": "FP16", "float32": "FP32", "float64": "FP64",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32",
    "uint64": "UINT64", TEXT: "BYTES",
}  # fmt: skip
#: NumPy's names of the numeric types, by the protocol's names.
NUMPY_TYPES = {name: dtype for dtype, name in V2_TYPES.items() if dtype != TEXT}
_LENGTH = struct.Struct("<I")


def datatype_of(array: np.ndarray) -> str:
    """Returns the protocol's name of an array's type.

    Texts are arrays of dtype `object`.
    """
    return V2_TYPES[TEXT if array.dtype.kind == "O" else array.dtype.name]


def to_bytes(array: np.ndarray) -> bytes:
    """Encodes an array in the protocol's binary form: little-endian.

    Each text is its length in bytes, as four bytes, and then its UTF-8, as
    in the binary tensor extension of Triton and KServe.
    """
    if array.dtype.kind == "O":
        encoded = [text.encode("utf-8") for text in array.ravel().tolist()]
        return b"".join(
            part for raw in encoded for part in (_LENGTH.pack(len(raw)), raw)
        )
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def from_bytes(raw: bytes, datatype: str, shape: list[int]) -> np.ndarray:
    """Decodes a binary tensor of numbers.

    Args:
        raw: bytes.
        datatype: str, the protocol's name of the type.
        shape: list of int.

    Raises:
        ValueError: not a numeric type, or bytes that do not fit the shape.
    """
    dtype = NUMPY_TYPES.get(datatype)
    if dtype is None:
        raise ValueError(f"datatype '{datatype}'")
    values = np.frombuffer(raw, np.dtype(dtype).newbyteorder("<"))
    return values.reshape(shape).astype(dtype)


def split_texts(raw: bytes | memoryview, count: int) -> list[bytes]:
    """Splits a binary tensor of texts into the bytes of each text.

    Args:
        raw: bytes-like.
        count: int, the expected number of texts.

    Returns:
        List of bytes.

    Raises:
        ValueError: `raw` holds fewer or more; the message says where.
    """
    if len(raw) < count * _LENGTH.size:
        raise ValueError(f"{len(raw)} bytes, too few for {count} lengths")
    texts, end = [], 0
    for index in range(count):
        start = end + _LENGTH.size
        if start > len(raw):
            raise ValueError(f"an end in the length of text {index}")
        end = start + _LENGTH.unpack_from(raw, start - _LENGTH.size)[0]
        if end > len(raw):
            raise ValueError(
                f"{len(raw) - start} of the {end - start} bytes of text {index}"
            )
        texts.append(bytes(raw[start:end]))
    if end < len(raw):
        raise ValueError(f"{len(raw) - end} bytes after the last text")
    return texts
