"""Inference requests of Open Inference Protocol v2 over gRPC."""

import numpy as np

from keras_cascade.runtime.teachers.grpc_messages import messages

X = np.random.default_rng(3).normal(size=(2, 6)).astype("float32")


def infer_request(raw=True, **changes):
    """An inference request, with fields of it or of its tensor changed."""
    kinds = messages()
    request = kinds.ModelInferRequest(model_name="teacher")
    tensor = request.inputs.add(name="input", datatype="FP32", shape=[2, 6])
    for name, value in changes.items():
        owner = tensor if name in ("name", "datatype") else request
        if name == "shape":
            tensor.shape[:] = value
        elif name == "outputs":
            request.outputs.add(name=value)
        elif name != "data":
            setattr(owner, name, value)
    if raw:
        request.raw_input_contents.append(changes.get("data", X.tobytes()))
    else:
        values = changes.get("data", X.ravel())
        tensor.contents.fp32_contents.extend(values)
    return request
