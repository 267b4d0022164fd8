"""What the two POST requests look like, for `GET /openapi.json`."""

_TENSOR = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": {"type": "string"},
        "datatype": {"type": "string", "examples": ["FP32", "BYTES"]},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "data": {"type": "array", "items": {}},
        "parameters": {
            "type": "object",
            "properties": {"binary_data_size": {"type": "integer"}},
        },
    },
}
_OUTPUT = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string"},
        "parameters": {
            "type": "object",
            "properties": {"binary_data": {"type": "boolean"}},
        },
    },
}
_V1 = {
    "type": "object",
    "properties": {
        "instances": {"type": "array", "items": {}},
        "inputs": {},
        "signature_name": {"type": "string"},
    },
}
_V2 = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "inputs": {"type": "array", "minItems": 1, "items": _TENSOR},
        "outputs": {"type": "array", "items": _OUTPUT},
        "parameters": {
            "type": "object",
            "properties": {"binary_data_output": {"type": "boolean"}},
        },
    },
}


def _body(schema, *others):
    content = {"application/json": {"schema": schema}}
    content.update({one: {"schema": {}} for one in others})
    return {"required": True, "content": content}


PREDICT_BODY = _body(_V1)
INFER_BODY = _body(_V2, "application/octet-stream")
