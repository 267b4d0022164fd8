"""Sends requests with NVIDIA's `tritonclient`; prints the answers as JSON.

A separate process: Triton's messages and KServe's have the same names, and
one process cannot hold both.

    python triton_client.py HTTP_ADDRESS GRPC_ADDRESS ROWS.npy
"""

import json
import sys

import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException


def answers(kind, client, x, binary, **options):
    """Health, metadata, two inferences, two errors."""
    tensor = kind.InferInput("input", list(x.shape), "FP32")
    inward = {"binary_data": binary} if options else {}
    tensor.set_data_from_numpy(x, **inward)
    outputs = [kind.InferRequestedOutput("logits", **options)]
    response = client.infer(
        "teacher", [tensor], outputs=outputs, request_id="7"
    )
    default = client.infer("teacher", [tensor])
    errors = []
    for name, shape in (("other", [1, 6]), ("input", [1, 7])):
        wrong = kind.InferInput(name, shape, "FP32")
        wrong.set_data_from_numpy(np.ones(shape, "float32"))
        try:
            client.infer("teacher", [wrong])
        except InferenceServerException as error:
            errors.append([error.status(), error.message()])
    return {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready("teacher", "1"),
        "other_ready": other_ready(client),
        "logits": response.as_numpy("logits").tolist(),
        "default": default.as_numpy("logits").tolist(),
        "errors": errors,
    }


def other_ready(client):
    """Readiness of an unknown model: `False`, or a status."""
    try:
        return client.is_model_ready("other")
    except InferenceServerException as error:
        return error.status()


def main():
    http_address, grpc_address, file = sys.argv[1:]
    x = np.load(file)
    http = tritonclient.http.InferenceServerClient(http_address)
    grpc = tritonclient.grpc.InferenceServerClient(grpc_address)
    kinds = tritonclient.http, tritonclient.grpc
    result = {
        f"http_{way}": answers(kinds[0], http, x, way == "in", binary_data=out)
        for way, out in (("in", False), ("out", True))
    }
    result["grpc"] = answers(kinds[1], grpc, x, True)
    result["http_metadata"] = http.get_model_metadata("teacher")
    result["grpc_metadata"] = grpc.get_model_metadata("teacher", as_json=True)
    result["grpc_server"] = grpc.get_server_metadata(as_json=True)["name"]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
