"""KServe's own server with a SavedModel.

    python benchmarks/faults/kserve_saved_model.py FOLDER HTTP_PORT GRPC_PORT

Without keras_cascade, which its environment may lack. The model is run as
KServe's documentation shows it: in `predict`, one request after the other.
"""

import sys

import kserve
import numpy as np
import tensorflow as tf


class Teacher(kserve.Model):
    """Model whose logits are those of a SavedModel."""

    def __init__(self, folder):
        super().__init__("teacher")
        self._model = tf.saved_model.load(folder)
        self._run = self._model.signatures["serving_default"]
        self.ready = True

    def predict(self, payload, headers=None, response_headers=None):
        """Answers one request."""
        x = payload.inputs[0].as_numpy()
        logits = self._run(input=tf.constant(x))["logits"].numpy()
        output = kserve.InferOutput("logits", list(logits.shape), "FP32")
        output.set_data_from_numpy(np.ascontiguousarray(logits), True)
        return kserve.InferResponse(
            payload.id or "1", "teacher", infer_outputs=[output]
        )


if __name__ == "__main__":
    folder, http_port, grpc_port = sys.argv[1:]
    kserve.ModelServer(
        http_port=int(http_port),
        grpc_port=int(grpc_port),
        enable_docs_url=False,
    ).start([Teacher(folder)])
