"""In the child: one layer of Keras 3 as a layer of Keras 2."""

import inspect

from keras_cascade.errors import ExportError

RENAMED = {"LeakyReLU": {"negative_slope": "alpha"}}
#: Found in a config, made anew by the weights that are set.
LEFT_OUT = ("dtype", "autocast", "batch_input_shape", "seed")
#: Activations that Keras 2 calls otherwise.
ACTIVATIONS = {"silu": "swish", "hard_swish": "hard_silu"}


def make_layer(step):
    """The Keras 2 layer of a step, without weights.

    Args:
        step: dict, as `Step.describe` gives it.

    Raises:
        ExportError: Keras 2 has no such layer, or it takes other arguments.
    """
    import tf_keras

    try:
        if step["class_name"] == "Activation":
            return _activation(step["config"])
        kind = getattr(tf_keras.layers, step["class_name"], None)
        if kind is None:
            raise ValueError("Keras 2 has no such layer.")
        return kind(**_arguments(kind, step))
    except (TypeError, ValueError) as error:
        raise refusal(step, str(error)) from error


def custom_objects():
    """Functions that Keras 2 lacks, by name."""
    return {"hard_silu": hard_silu, "hard_sigmoid_of_keras_3": hard_sigmoid}


def hard_sigmoid(x):
    """`relu6(x + 3) / 6`; the Keras 2 function of this name is another."""
    import tensorflow as tf

    return tf.nn.relu6(x + 3.0) * (1.0 / 6.0)


hard_sigmoid.__name__ = "hard_sigmoid_of_keras_3"


def hard_silu(x):
    """`x · relu6(x + 3) / 6`."""
    return x * hard_sigmoid(x)


def refusal(step, why):
    """The error of a layer that cannot be rebuilt."""
    return ExportError(
        "The student cannot be rebuilt for optimization: layer "
        f"'{step['source']}' ({step['class_name']}). {why} Export it with "
        "another quantization, or replace the layer."
    )


def _activation(config):
    import tf_keras

    name, activation = config["name"], config["activation"]
    activation = ACTIVATIONS.get(activation, activation)
    if activation == "relu6":
        return tf_keras.layers.ReLU(max_value=6.0, name=name)
    if activation == "leaky_relu":
        return tf_keras.layers.LeakyReLU(alpha=0.2, name=name)
    own = {"hard_silu": hard_silu, "hard_sigmoid": hard_sigmoid}
    return tf_keras.layers.Activation(
        own.get(activation, activation), name=name
    )


def _arguments(kind, step):
    """The part of a config that a Keras 2 class takes."""
    import tf_keras

    known = {"name", "trainable"}
    for base in kind.__mro__:
        if base is not tf_keras.layers.Layer and "__init__" in vars(base):
            known |= set(inspect.signature(base.__init__).parameters)
    renamed = RENAMED.get(step["class_name"], {})
    arguments = {}
    for key, value in step["config"].items():
        key = renamed.get(key, key)
        if key not in known or key in LEFT_OUT or "initializer" in key:
            continue
        if isinstance(value, dict):
            value = _small_object(key, value)
        arguments[key] = value
    return arguments


def _small_object(key, value):
    """A regularizer or a constraint."""
    import tf_keras

    plain = {"class_name": value["class_name"], "config": value["config"]}
    if key.endswith("_regularizer"):
        return tf_keras.regularizers.deserialize(plain)
    if key.endswith("_constraint"):
        return tf_keras.constraints.deserialize(plain)
    raise ValueError(f"Its argument `{key}` is an object.")
