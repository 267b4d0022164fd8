"""Rebuilding of a student, or a part of it, as a Keras 2 model."""

import inspect

import numpy as np

from keras_cascade.export.optimization.functional_config import (
    NEXT_STEP,
    StudentRefusedError,
)

RENAMED = {"LeakyReLU": {"negative_slope": "alpha"}}
#: Arguments that Keras 2 does not take, or that the weights replace.
LEFT_OUT = ("dtype", "autocast", "batch_input_shape", "seed")
#: Activations with another name in Keras 2.
ACTIVATIONS = {"silu": "swish", "hard_swish": "hard_silu"}


def rebuild(inputs, steps, weights):
    """Builds layers on inputs, and sets their weights.

    Args:
        inputs: dict of name to `{"shape", "dtype"}`, without batch.
        steps: list of dicts, as `Step.describe` gives them.
        weights: dict of step name to list of arrays.

    Returns:
        Dict of name to symbolic tensor, the inputs' first.

    Raises:
        ExportError: a layer that Keras 2 cannot take, by name.
    """
    import tf_keras

    tensors = {
        name: tf_keras.Input(spec["shape"], dtype=spec["dtype"], name=name)
        for name, spec in inputs.items()
    }
    for step in steps:
        layer = _layer(step)
        arguments = [tensors[name] for name in step["inputs"]]
        try:
            outputs = layer(arguments if len(arguments) > 1 else arguments[0])
            layer.set_weights(weights[step["name"]])
        except (TypeError, ValueError) as error:
            raise unsupported(step, f"Keras 2 says: {error}") from error
        if not hasattr(outputs, "shape"):
            raise unsupported(step, "It has several outputs.")
        tensors[step["name"]] = outputs
    return tensors


def model_of(tensors, inputs, outputs):
    """`tf_keras.Model` between named tensors of `rebuild`."""
    import tf_keras

    return tf_keras.Model(
        [tensors[name] for name in inputs],
        [tensors[name] for name in outputs],
    )


def check(tensors, job, reference):
    """Compares every layer's outputs with those of the student's own.

    Args:
        tensors: result of `rebuild` for the whole student.
        job: dict with `inputs`, `steps` and `tolerance`.
        reference: dict of name to array, of inputs and steps.

    Raises:
        ExportError: names the first layer that answers otherwise.
    """
    compared = [step for step in job["steps"] if step["name"] in reference]
    model = model_of(
        tensors, job["inputs"], [step["name"] for step in compared]
    )
    outputs = model([reference[name] for name in job["inputs"]], training=False)
    for step, array in zip(compared, outputs, strict=True):
        expected = reference[step["name"]]
        if tuple(array.shape) != expected.shape:
            raise unsupported(
                step,
                f"Rebuilt, it has the shape {tuple(array.shape)} where "
                f"{expected.shape} is expected.",
            )
        size = max(1.0, float(np.abs(expected).max(initial=0.0)))
        gap = float(np.abs(array - expected).max(initial=0.0)) / size
        if not gap <= job["tolerance"]:
            raise unsupported(
                step,
                f"Rebuilt, its outputs differ by {gap:.2g} where at most "
                f"{job['tolerance']:.0e} is expected.",
            )


def custom_objects():
    """Dict of the functions that Keras 2 lacks, by name."""
    return {"hard_silu": hard_silu, "hard_sigmoid_of_keras_3": hard_sigmoid}


def hard_sigmoid(x):
    """`relu6(x + 3) / 6`; the Keras 2 function of this name is another."""
    import tensorflow as tf

    return tf.nn.relu6(x + 3.0) * (1.0 / 6.0)


hard_sigmoid.__name__ = "hard_sigmoid_of_keras_3"


def hard_silu(x):
    """`x · relu6(x + 3) / 6`."""
    return x * hard_sigmoid(x)


def unsupported(step, why):
    """Error that names a layer that cannot be rebuilt."""
    return StudentRefusedError(
        "The student cannot be rebuilt for optimization: layer "
        f"'{step['source']}' ({step['class_name']}). {why} {NEXT_STEP}"
    )


def _layer(step):
    """Keras 2 layer of a step, without weights.

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
        raise unsupported(step, str(error)) from error


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
    """Arguments of a Keras 2 class, from a step's config."""
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
    """Regularizer or constraint from its config."""
    import tf_keras

    plain = {"class_name": value["class_name"], "config": value["config"]}
    if key.endswith("_regularizer"):
        return tf_keras.regularizers.deserialize(plain)
    if key.endswith("_constraint"):
        return tf_keras.constraints.deserialize(plain)
    raise ValueError(f"Its argument `{key}` is an object.")
