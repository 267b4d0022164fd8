"""The type names of Open Inference Protocol v2."""

import struct

import numpy as np

from keras_cascade.runtime.text_inputs import TEXT

V2_TYPES = {
    "bool": "BOOL", "float16": "FP16", "float32": "FP32", "float64": "FP64",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32",
    "uint64": "UINT64", TEXT: "BYTES",
}  # fmt: skip
#: The types of numbers, by the protocol's names.
NUMPY_TYPES = {name: dtype for dtype, name in V2_TYPES.items() if dtype != TEXT}
_LENGTH = struct.Struct("<I")


def datatype_of(array):
    """The protocol's name of an array's type; texts are objects here."""
    return V2_TYPES[TEXT if array.dtype.kind == "O" else array.dtype.name]


def to_bytes(array):
    """An array's values as the protocol's binary form: little-endian.

    Each text is its length in bytes, as four bytes, and then its UTF-8: so
    says the extension of binary tensors that Triton and KServe describe.
    """
    if array.dtype.kind == "O":
        encoded = [text.encode("utf-8") for text in array.ravel().tolist()]
        return b"".join(
            part for raw in encoded for part in (_LENGTH.pack(len(raw)), raw)
        )
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


def split_texts(raw, count):
    """The texts of a binary tensor, as the bytes that each of them has.

    Args:
        raw: bytes-like.
        count: int, how many there should be.

    Returns:
        List of bytes.

    Raises:
        ValueError: `raw` holds fewer or more. It says where.
    """
    if len(raw) < count * _LENGTH.size:
        raise ValueError(f"{len(raw)} bytes, too few for {count} lengths")
    texts, at = [], 0
    for number in range(count):
        start = at + _LENGTH.size
        if start > len(raw):
            raise ValueError(f"an end in the length of text {number}")
        at = start + _LENGTH.unpack_from(raw, start - _LENGTH.size)[0]
        if at > len(raw):
            raise ValueError(
                f"{len(raw) - start} of the {at - start} bytes of text {number}"
            )
        texts.append(bytes(raw[start:at]))
    if at < len(raw):
        raise ValueError(f"{len(raw) - at} bytes after the last text")
    return texts
