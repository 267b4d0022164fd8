"""KServe's own model server, with a model that adds up a row's numbers,
or the bytes of its text.

    python kserve_server.py HTTP_PORT GRPC_PORT BINARY

Prints a line when both ports answer.
"""

import socket
import sys
import threading
import time

HTTP_PORT, GRPC_PORT = int(sys.argv[1]), int(sys.argv[2])
BINARY = sys.argv[3] == "binary"
sys.argv[1:] = []  # KServe parses them when it is imported

import kserve  # noqa: E402
import numpy as np  # noqa: E402


class Sums(kserve.Model):
    def __init__(self):
        super().__init__("teacher")
        self.ready = True

    async def predict(self, payload, headers=None, response_headers=None):
        if isinstance(payload, dict):
            return {"predictions": logits_of(payload["instances"]).tolist()}
        logits = logits_of(payload.inputs[0].as_numpy())
        output = kserve.InferOutput("logits", list(logits.shape), "FP32")
        output.set_data_from_numpy(logits, binary_data=BINARY)
        return kserve.InferResponse(payload.id, "teacher", [output])


def logits_of(x):
    if isinstance(x[0], (str, bytes)):  # a text counts as its UTF-8 bytes
        texts = [one if isinstance(one, bytes) else one.encode() for one in x]
        x = [[sum(text)] for text in texts]
    x = np.array(x, "float32")
    logits = np.zeros((len(x), 4), "float32")
    logits[:, 0] = x.reshape(len(x), -1).sum(axis=1)
    return logits


def announce():
    for port in (HTTP_PORT, GRPC_PORT):
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.05)
    print("ready", flush=True)


threading.Thread(target=announce, daemon=True).start()
kserve.ModelServer(http_port=HTTP_PORT, grpc_port=GRPC_PORT, workers=1).start(
    [Sums()]
)
