"""A request's JSON, read strictly."""

import orjson

from keras_cascade.serving.request_error import RequestError


def read_json(body):
    """Reads a JSON object.

    Nesting is bounded twice: the parser stops at 1024 levels, NumPy, which
    reads the numbers, at 64 axes. Both refuse, neither recurses further.

    Args:
        body: bytes.

    Returns:
        Dict.

    Raises:
        RequestError: not JSON (NaN is none), nested too deeply, no object.
    """
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(
            400, f"Expected JSON in the body. Received something else: {error}."
        ) from None
    if not isinstance(found, dict):
        raise RequestError(
            400,
            "Expected a JSON object in the body. Received: "
            f"{type(found).__name__}.",
        )
    return found


def write_json(value):
    """JSON bytes; float32 arrays in the fewest digits that say which."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
