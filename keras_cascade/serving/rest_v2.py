"""Open Inference Protocol v2 over HTTP: JSON, and tensors in binary.

The binary form is Triton's extension: the header
`inference-header-content-length` says how many bytes the JSON takes, each
input's `binary_data_size` how many of those that follow are its own.
"""

import dataclasses

from keras_cascade.runtime.teachers.remote_teacher import IDENTITY_PARAMETER
from keras_cascade.runtime.teachers.v2_tensors import datatype_of, to_bytes
from keras_cascade.serving.http_requests import read_json, write_json
from keras_cascade.serving.json_tensors import (
    OTHERS,
    elements,
    first_character,
    is_small,
    large_object,
    members,
    plain,
)
from keras_cascade.serving.request_error import RequestError
from keras_cascade.serving.teacher_service import named_outputs
from keras_cascade.serving.tensors import TensorReader

JSON_LENGTH = "inference-header-content-length"
#: Fields of a tensor; others are ignored.
TENSOR = ("name", "datatype", "shape", "parameters", "data")


@dataclasses.dataclass(frozen=True)
class InferRequest:
    """Content of an inference request.

    Attributes:
        inputs: dict of input name to array.
        id: str or `None`, repeated in the response.
        binary: bool. Returns the output tensor as bytes after the JSON.
    """

    inputs: dict
    id: str | None
    binary: bool


def read_request(body, length, specs, output, max_rows):
    """Reads the body of `POST /v2/models/NAME/infer`.

    Args:
        body: bytes.
        length: int, of the JSON at its start, as `json_length` returned it.
        specs: list of the inputs, as in the manifest.
        output: str, the name of the one output.
        max_rows: int, of one request.

    Returns:
        `InferRequest`.

    Raises:
        RequestError: not a valid request.
    """
    head = memoryview(body)[:length]
    if is_small(head):
        payload = read_json(head)
    else:
        payload = _sliced(*large_object(head, specs, max_rows))
    identity = payload.get("id")
    if not isinstance(identity, str | None):
        raise RequestError(400, "Expected 'id' to be a string.")
    inputs = payload.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise RequestError(400, "Expected 'inputs' to be a list of tensors.")
    reader = TensorReader(specs, max_rows)
    binary = memoryview(body)[length:]
    for position, tensor in enumerate(inputs):
        binary = _read_tensor(tensor, f"inputs[{position}]", binary, reader)
    if len(binary):
        raise RequestError(
            400,
            "Expected the body to end with the last tensor. Received "
            f"{len(binary)} more bytes: look at each 'binary_data_size' and at "
            f"the header '{JSON_LENGTH}'.",
        )
    return InferRequest(reader.arrays, identity, _wants_binary(payload, output))


def write_response(logits, request, model, teacher):
    """Returns the response's body.

    Args:
        logits: float32 array `(rows, classes)`; of the k largest a dict of
            arrays.
        request: `InferRequest`.
        model: str, its name.
        teacher: `LoadedTeacher` that answered.

    Returns:
        Tuple of bytes and the length of the JSON at their start; `None` if
        all of it is JSON.
    """
    arrays = named_outputs(logits, teacher.output)
    tensors = [
        {"name": name, "datatype": datatype_of(array), "shape": array.shape}
        for name, array in arrays.items()
    ]
    response = {"model_name": model, "model_version": teacher.version}
    if request.id is not None:
        response["id"] = request.id
    response["parameters"] = {IDENTITY_PARAMETER: teacher.identity}
    response["outputs"] = tensors
    raw = []
    for tensor, array in zip(tensors, arrays.values(), strict=True):
        if request.binary:
            raw.append(to_bytes(array))
            tensor["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            tensor["data"] = array.ravel()
    head = write_json(response)
    if not request.binary:
        return head, None
    return b"".join([head, *raw]), len(head)


def _sliced(payload, counts):
    """Parses a large request but for the values of its tensors."""
    inputs = payload.pop("inputs", None)
    sliced = {
        name: plain(payload[name], f"'{name}'")
        for name in ("id", "outputs", "parameters")
        if name in payload
    }
    if inputs is None or first_character(inputs) != b"[":
        return sliced
    # Level 2 is inside of `"inputs"`, and of others that are small.
    if counts.commas_at[2] > OTHERS:
        raise RequestError(400, f"Expected at most {OTHERS} 'inputs'.")
    sliced["inputs"] = [
        {
            name: value if name == "data" else plain(value, f"'{name}'")
            for name, value in members(tensor, f"'inputs[{position}]'").items()
            if name in TENSOR
        }
        for position, tensor in enumerate(elements(inputs, "'inputs'"))
    ]
    return sliced


def json_length(header, size):
    """Returns how many bytes of a body are JSON.

    Args:
        header: str or `None`, the header `JSON_LENGTH`.
        size: int, of the body.

    Raises:
        RequestError: not such a number.
    """
    if header is None:
        return size
    if not (header.isascii() and header.isdigit() and len(header) < 19):
        raise RequestError(
            400,
            f"Expected the header '{JSON_LENGTH}' to be a whole number. "
            f"Received: {header[:30]!r}.",
        )
    if int(header) > size:
        raise RequestError(
            400,
            f"Expected the header '{JSON_LENGTH}' to be at most the body's "
            f"{size} bytes. Received: {int(header)}.",
        )
    return int(header)


def _read_tensor(tensor, path, binary, reader):
    """Reads one input; returns the rest of the binary part."""
    if not isinstance(tensor, dict):
        raise RequestError(400, f"Expected '{path}' to be an object.")
    parameters = _parameters(tensor, path)
    if "shared_memory_region" in parameters:
        raise RequestError(
            400,
            f"Expected the data of '{path}' in the request. This server "
            "reads no shared memory.",
        )
    header = [tensor.get(key) for key in ("name", "datatype", "shape")]
    size = parameters.get("binary_data_size")
    if (size is None) == ("data" not in tensor):
        raise RequestError(
            400,
            f"Expected '{path}' with either 'data' or the parameter "
            "'binary_data_size'.",
        )
    if size is None:
        reader.add(*header, values=tensor["data"])
        return binary
    # `type`, as JSON's true and false are no sizes, though `bool` is an `int`.
    if type(size) is not int or not 0 <= size <= len(binary):
        raise RequestError(
            400,
            f"Expected 'binary_data_size' of '{path}' between 0 and the "
            f"{len(binary)} bytes that follow. Received: {str(size)[:30]}. Is "
            f"the header '{JSON_LENGTH}' missing?",
        )
    reader.add(*header, raw=binary[:size])
    return binary[size:]


def _wants_binary(payload, output):
    """Returns `True` if the request asks for the output as bytes."""
    binary = _flag(_parameters(payload, "the body"), "binary_data_output")
    outputs = payload.get("outputs")
    if outputs is None or outputs == []:
        return binary
    if not isinstance(outputs, list) or len(outputs) != 1:
        raise RequestError(
            400, f"Expected 'outputs' to be a list with '{output}' alone."
        )
    (requested,) = outputs
    if not isinstance(requested, dict) or requested.get("name") != output:
        is_object = isinstance(requested, dict)
        name = requested.get("name") if is_object else requested
        raise RequestError(
            400,
            f"Expected the output '{output}' in 'outputs'. Received: "
            f"{str(name)[:100]!r}.",
        )
    parameters = _parameters(requested, "outputs[0]")
    for name in ("classification", "shared_memory_region"):
        if name in parameters:
            raise RequestError(
                400, f"This server does not know the output parameter '{name}'."
            )
    return _flag(parameters, "binary_data", binary)


def _parameters(owner, path):
    parameters = owner.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise RequestError(
            400, f"Expected 'parameters' of {path} to be an object."
        )
    return parameters


def _flag(parameters, name, default=False):
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise RequestError(
            400, f"Expected the parameter '{name}' to be true or false."
        )
    return value
