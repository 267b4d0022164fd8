"""TensorFlow Serving's REST form: requests to arrays, logits to JSON."""

from keras_cascade.serving.json_body import read_json, write_json
from keras_cascade.serving.request_error import RequestError

KEYS = ("instances", "inputs", "signature_name")


def read_request(body):
    """Reads `POST /v1/models/NAME:predict`.

    Args:
        body: bytes.

    Returns:
        Tuple of the inputs (an array-like, or a dict of them by name, rows
        first) and whether they came as `"instances"`.

    Raises:
        RequestError: not such a request.
    """
    payload = read_json(body)
    given = {"instances", "inputs"} & payload.keys()
    if len(given) != 1 or not payload.keys() <= set(KEYS):
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
    if "inputs" in payload:
        return payload["inputs"], False
    return _columns(payload["instances"]), True


def write_response(logits, as_instances):
    """The answer's body.

    Args:
        logits: float32 array `(rows, classes)`.
        as_instances: bool, as `read_request` returned it.
    """
    return write_json({"predictions" if as_instances else "outputs": logits})


def _columns(instances):
    """Rows of named inputs to one column a name; other rows as they are."""
    if not isinstance(instances, list) or not instances:
        raise RequestError(
            400, "Expected 'instances' to be a list with rows in it."
        )
    if not isinstance(instances[0], dict):
        return instances
    names = instances[0].keys()
    if any(
        not isinstance(row, dict) or row.keys() != names for row in instances
    ):
        raise RequestError(
            400, "Expected every row of 'instances' to name the same inputs."
        )
    return {name: [row[name] for row in instances] for name in names}


def _names(payload):
    return [str(name)[:100] for name in sorted(payload)[:10]]
