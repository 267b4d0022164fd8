"""Sends texts with NVIDIA's `tritonclient`; prints the logits as JSON.

python triton_text_client.py HTTP_ADDRESS GRPC_ADDRESS < TEXTS.json
"""

import json
import sys

import numpy as np
import tritonclient.grpc
import tritonclient.http


def answer(kind, client, texts, **options):
    tensor = kind.InferInput("text", [len(texts)], "BYTES")
    tensor.set_data_from_numpy(texts, **options)
    return client.infer("teacher", [tensor]).as_numpy("logits").tolist()


def main():
    http = tritonclient.http.InferenceServerClient(sys.argv[1])
    grpc = tritonclient.grpc.InferenceServerClient(sys.argv[2])
    texts = np.array(json.load(sys.stdin), dtype=object)
    logits = {
        name: answer(tritonclient.http, http, texts, binary_data=binary)
        for name, binary in (("http_binary", True), ("http_json", False))
    }
    logits["grpc"] = answer(tritonclient.grpc, grpc, texts)
    print(json.dumps(logits))


if __name__ == "__main__":
    main()
