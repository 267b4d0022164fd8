"""Teachers of one linear classifier, each from its own library."""

import numpy as np

#: Classes and inputs of the linear teachers.
CLASSES, WIDTH = 3, 4
WEIGHTS = (3 * np.random.default_rng(5).normal(size=(WIDTH, CLASSES))).astype(
    "float32"
)


def examples(count, seed):
    """Returns inputs and the labels of the linear classifier, some wrong."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, WIDTH)).astype("float32")
    noisy = x @ WEIGHTS + rng.gumbel(size=(count, CLASSES))
    return x, noisy.argmax(axis=1)


def softmax(logits):
    """Softmax in float64, written out."""
    powers = np.exp(logits.astype("float64"))
    return powers / powers.sum(axis=1, keepdims=True)


def write_onnx(path, name="features"):
    """Writes the classifier as an ONNX file that outputs probabilities."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    floats = TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", [name, "weights"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["shares"], axis=1),
        ],
        "linear",
        [helper.make_tensor_value_info(name, floats, [None, WIDTH])],
        [helper.make_tensor_value_info("shares", floats, [None, CLASSES])],
        [numpy_helper.from_array(WEIGHTS, "weights")],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 8
    onnx.save(model, path)
    return path


def write_saved_model(path):
    """Writes the classifier as a SavedModel that outputs probabilities."""
    import tensorflow as tf

    module = tf.Module()
    module.weights = tf.Variable(WEIGHTS)
    spec = tf.TensorSpec([None, WIDTH], tf.float32, name="features")

    @tf.function
    def answer(features):
        return {"shares": tf.nn.softmax(features @ module.weights)}

    module.answer = answer
    signature = answer.get_concrete_function(features=spec)
    tf.saved_model.save(
        module, str(path), signatures={"serving_default": signature}
    )
    return path


def torch_module(weights=WEIGHTS):
    """Makes the classifier a PyTorch module, which drops out in training."""
    import torch

    linear = torch.nn.Linear(WIDTH, CLASSES, bias=False)
    linear.load_state_dict({"weight": torch.from_numpy(weights.T.copy())})
    return torch.nn.Sequential(torch.nn.Dropout(0.9), linear)
