"""TensorFlow Serving's REST protocol: requests to arrays, logits to JSON."""

import base64

from keras_cascade.runtime.inputs import TEXT
from keras_cascade.serving.http_requests import read_json, write_json
from keras_cascade.serving.json_tensors import (
    Slice,
    elements,
    first_character,
    is_small,
    large_object,
    members,
    plain,
    read_numbers,
    read_texts,
)
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
    rows = 0
    if is_small(body):
        payload = read_json(body)
    else:
        payload, counts = large_object(body, specs, max_rows)
        rows = int(counts.commas_at[2]) + 1
    forms = {"instances", "inputs"} & payload.keys()
    if len(forms) != 1 or not payload.keys() <= set(KEYS):
        raise RequestError(
            400,
            "Expected exactly one of 'instances' and 'inputs', and perhaps "
            f"'signature_name'. Received: {_names(payload)}.",
        )
    signature = plain(
        payload.get("signature_name", "serving_default"), "'signature_name'"
    )
    if signature != "serving_default":
        raise RequestError(
            400,
            "Expected 'signature_name' to be 'serving_default'. Received: "
            f"{str(signature)[:100]!r}.",
        )
    as_instances = "instances" in payload
    inputs = payload["instances" if as_instances else "inputs"]
    if isinstance(inputs, Slice):
        if as_instances and rows > max_rows:
            raise too_many_rows(rows, max_rows)
        inputs = _sliced(inputs, as_instances)
    elif as_instances:
        _check_rows(inputs, max_rows)
        inputs = _columns(inputs)
    return _read_columns(inputs, specs, max_rows), as_instances


def write_response(logits, as_instances):
    """Returns the response's body.

    Args:
        logits: float32 array `(rows, classes)`; of the k largest a dict of
            arrays, which is written in columns in either form.
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


def _sliced(inputs, as_instances):
    """Slices a large value of `"instances"` or `"inputs"` into columns."""
    first = first_character(inputs)
    if not as_instances:
        if first != b"{":
            return inputs
        columns = members(inputs, "'inputs'")
        return None if _is_base64(columns) else columns
    if first != b"[" or first_character(inputs, skip=b"[") != b"{":
        return inputs if first == b"[" else _columns(None)
    rows = elements(inputs, "'instances'")
    columns = _columns(
        [
            members(row, "each row of 'instances'")
            if first_character(row) == b"{"
            else None
            for row in rows
        ]
    )
    # Not rows of named inputs, but texts in base64.
    return columns if isinstance(columns, dict) else rows


def _read_columns(inputs, specs, max_rows):
    """Reads the values of each input; other names are rejected later."""
    named = isinstance(inputs, dict) and not _is_base64(inputs)
    columns = dict(inputs) if named else {specs[0]["name"]: inputs}
    if columns.keys() == {spec["name"] for spec in specs}:
        for spec in specs:
            name, values = spec["name"], columns[spec["name"]]
            _check_rows(values, max_rows)
            if spec["dtype"] == TEXT:
                values = read_texts(values, spec, max_rows)
                columns[name] = _decoded(values, name, len(spec["shape"]))
            else:
                columns[name] = read_numbers(values, spec, max_rows)
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
        and (
            isinstance(value["b64"], str)
            or (
                isinstance(value["b64"], Slice)
                and first_character(value["b64"]) == b'"'
            )
        )
    )


def _names(payload):
    return [str(name)[:100] for name in sorted(payload)[:10]]
