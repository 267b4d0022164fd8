"""TensorFlow Serving's REST protocol: requests to arrays, logits to JSON."""

import base64

from keras_cascade.runtime.inputs import TEXT
from keras_cascade.serving.http_requests import read_json, write_json
from keras_cascade.serving.request_error import RequestError, too_many_rows

KEYS = ("instances", "inputs", "signature_name")


def read_request(body, specs, max_rows):
    """Reads the body of `POST /v1/models/NAME:predict`.

    Args:
        body: bytes.
        specs: list of the inputs, as in the manifest.
        max_rows: int, of one request: a larger one is not read.

    Returns:
        Tuple of the inputs (an array-like, or a dict of them by name, rows
        first) and a bool: `True` if they came as `"instances"`.

    Raises:
        RequestError: not a valid request.
    """
    payload = read_json(body)
    forms = {"instances", "inputs"} & payload.keys()
    if len(forms) != 1 or not payload.keys() <= set(KEYS):
        raise RequestError(
            400,
            "Expected exactly one of 'instances' and 'inputs', and perhaps "
            f"'signature_name'. Received: {_names(payload)}.",
        )
    signature = payload.get("signature_name", "serving_default")
    if signature != "serving_default":
        raise RequestError(
            400,
            "Expected 'signature_name' to be 'serving_default'. Received: "
            f"{str(signature)[:100]!r}.",
        )
    as_instances = "instances" in payload
    inputs = payload["instances" if as_instances else "inputs"]
    if as_instances:
        _check_rows(inputs, max_rows)
        inputs = _columns(inputs)
    return _without_base64(inputs, specs, max_rows), as_instances


def write_response(logits, as_instances):
    """Returns the response's body.

    Args:
        logits: float32 array `(rows, classes)`.
        as_instances: bool, as `read_request` returned it.
    """
    return write_json({"predictions" if as_instances else "outputs": logits})


def _columns(instances):
    """Transposes rows of named inputs to columns; returns others unchanged."""
    if not isinstance(instances, list) or not instances:
        raise RequestError(
            400, "Expected 'instances' to be a list with rows in it."
        )
    if not isinstance(instances[0], dict) or _is_base64(instances[0]):
        return instances
    names = instances[0].keys()
    if any(
        not isinstance(row, dict) or row.keys() != names for row in instances
    ):
        raise RequestError(
            400, "Expected every row of 'instances' to name the same inputs."
        )
    return {name: [row[name] for row in instances] for name in names}


def _check_rows(values, max_rows):
    if isinstance(values, list) and len(values) > max_rows:
        raise too_many_rows(len(values), max_rows)


def _without_base64(inputs, specs, max_rows):
    """Replaces each text in the form `{"b64": ...}` by its bytes."""
    named = isinstance(inputs, dict) and not _is_base64(inputs)
    columns = dict(inputs) if named else {specs[0]["name"]: inputs}
    for spec in specs:
        name = spec["name"]
        if spec["dtype"] == TEXT and name in columns:
            _check_rows(columns[name], max_rows)
            columns[name] = _decoded(columns[name], name, len(spec["shape"]))
    return columns if named else columns[specs[0]["name"]]


def _decoded(values, name, depth):
    if isinstance(values, list) and depth:
        if not {dict, list} & set(map(type, values)):
            return values  # plain texts, as nearly always
        return [_decoded(value, name, depth - 1) for value in values]
    if not _is_base64(values):
        return values
    text = values["b64"]
    try:
        # As TensorFlow Serving, which needs no padding.
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise RequestError(
            400,
            f"Expected base64 in every 'b64' of input '{name}'. Received: "
            f"{text[:100]!r}.",
        ) from None


def _is_base64(value):
    """Tests for bytes in JSON, by TensorFlow Serving's rule."""
    return (
        isinstance(value, dict)
        and value.keys() == {"b64"}
        and isinstance(value["b64"], str)
    )


def _names(payload):
    return [str(name)[:100] for name in sorted(payload)[:10]]
