"""Open Inference Protocol v2 over HTTP: JSON, and tensors as bytes after it.

The binary form is Triton's extension: the header
`inference-header-content-length` says how many bytes the JSON takes, each
input's `binary_data_size` how many of those that follow are its own.
"""

import dataclasses

from keras_cascade.serving.json_body import read_json, write_json
from keras_cascade.serving.request_error import RequestError
from keras_cascade.serving.tensors import TensorReader

JSON_LENGTH = "inference-header-content-length"


@dataclasses.dataclass(frozen=True)
class InferRequest:
    """What a request asks for.

    Attributes:
        inputs: dict of input name to array.
        id: str or `None`, given back with the answer.
        binary: bool, whether the answer's tensor comes as bytes.
    """

    inputs: dict
    id: str | None
    binary: bool


def read_request(body, json_length, specs, output, max_rows=None):
    """Reads `POST /v2/models/NAME/infer`.

    Args:
        body: bytes.
        json_length: str or `None`, the header `JSON_LENGTH`.
        specs: list of the inputs, as in the manifest.
        output: str, the name of the one output.
        max_rows: int or `None`, of one request. Defaults to `None`.

    Returns:
        `InferRequest`.

    Raises:
        RequestError: not such a request.
    """
    length = _json_length(json_length, len(body))
    payload = read_json(body[:length])
    identity = payload.get("id")
    if not isinstance(identity, str | None):
        raise RequestError(400, "Expected 'id' to be a string.")
    inputs = payload.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise RequestError(400, "Expected 'inputs' to be a list of tensors.")
    reader = TensorReader(specs, max_rows)
    rest = memoryview(body)[length:]
    for position, tensor in enumerate(inputs):
        rest = _read_tensor(tensor, f"inputs[{position}]", rest, reader)
    if len(rest):
        raise RequestError(
            400,
            "Expected the body to end with the last tensor. Received "
            f"{len(rest)} more bytes: look at each 'binary_data_size' and at "
            f"the header '{JSON_LENGTH}'.",
        )
    return InferRequest(reader.arrays, identity, _binary(payload, output))


def write_response(logits, request, model, version, output):
    """The answer's body.

    Args:
        logits: float32 array `(rows, classes)`.
        request: `InferRequest`.
        model: str, its name.
        version: str.
        output: str, the output's name.

    Returns:
        Tuple of bytes and the length of their JSON, or `None` where they
        are nothing else.
    """
    tensor = {"name": output, "datatype": "FP32", "shape": logits.shape}
    answer = {"model_name": model, "model_version": version}
    if request.id is not None:
        answer["id"] = request.id
    answer["outputs"] = [tensor]
    if not request.binary:
        tensor["data"] = logits.ravel()
        return write_json(answer), None
    raw = logits.astype("<f4", copy=False).tobytes()
    tensor["parameters"] = {"binary_data_size": len(raw)}
    head = write_json(answer)
    return head + raw, len(head)


def _json_length(header, size):
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


def _read_tensor(tensor, where, rest, reader):
    """Reads one input; returns the bytes that follow its own."""
    if not isinstance(tensor, dict):
        raise RequestError(400, f"Expected '{where}' to be an object.")
    parameters = _parameters(tensor, where)
    if "shared_memory_region" in parameters:
        raise RequestError(
            400,
            f"Expected the data of '{where}' in the request. This server "
            "reads no shared memory.",
        )
    described = [tensor.get(key) for key in ("name", "datatype", "shape")]
    size = parameters.get("binary_data_size")
    if (size is None) == ("data" not in tensor):
        raise RequestError(
            400,
            f"Expected '{where}' with either 'data' or the parameter "
            "'binary_data_size'.",
        )
    if size is None:
        reader.add(*described, values=tensor["data"])
        return rest
    if type(size) is not int or not 0 <= size <= len(rest):
        raise RequestError(
            400,
            f"Expected 'binary_data_size' of '{where}' between 0 and the "
            f"{len(rest)} bytes that follow. Received: {str(size)[:30]}. Is "
            f"the header '{JSON_LENGTH}' missing?",
        )
    reader.add(*described, raw=rest[:size])
    return rest[size:]


def _binary(payload, output):
    """Whether the output is asked for as bytes."""
    binary = _flag(_parameters(payload, "the body"), "binary_data_output")
    wanted = payload.get("outputs")
    if wanted is None or wanted == []:
        return binary
    if not isinstance(wanted, list) or len(wanted) != 1:
        raise RequestError(
            400, f"Expected 'outputs' to be a list with '{output}' alone."
        )
    (one,) = wanted
    if not isinstance(one, dict) or one.get("name") != output:
        name = one.get("name") if isinstance(one, dict) else one
        raise RequestError(
            400,
            f"Expected the output '{output}' in 'outputs'. Received: "
            f"{str(name)[:100]!r}.",
        )
    parameters = _parameters(one, "outputs[0]")
    for name in ("classification", "shared_memory_region"):
        if name in parameters:
            raise RequestError(
                400, f"This server does not know the output parameter '{name}'."
            )
    return _flag(parameters, "binary_data", binary)


def _parameters(owner, where):
    parameters = owner.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise RequestError(
            400, f"Expected 'parameters' of {where} to be an object."
        )
    return parameters


def _flag(parameters, name, default=False):
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise RequestError(
            400, f"Expected the parameter '{name}' to be true or false."
        )
    return value
